#include "launcher/job_state.h"

namespace catena::launcher {

const char* name_of(JobPhase phase) {
  switch (phase) {
    case JobPhase::kNew:
      return "NEW";
    case JobPhase::kStarting:
      return "STARTING";
    case JobPhase::kRendezvous:
      return "RENDEZVOUS";
    case JobPhase::kRunning:
      return "RUNNING";
    case JobPhase::kSaving:
      return "SAVING";
    case JobPhase::kStopping:
      return "STOPPING";
    case JobPhase::kRestarting:
      return "RESTARTING";
    case JobPhase::kSucceeded:
      return "SUCCEEDED";
    case JobPhase::kFailed:
      return "FAILED";
    case JobPhase::kPreempted:
      return "PREEMPTED";
    case JobPhase::kCancelled:
      return "CANCELLED";
  }
  return "";
}

}  // namespace catena::launcher
