#pragma once

/// The page that launcher and training share: exit codes and names in the
/// environment. Constants only; nothing else of the launcher is seen by
/// training.

namespace catena {

/// Exit codes. A scheduler decides by code alone: 69 and 75 mean "requeue",
/// all others listed here mean "do not". 1 to 63 are a rank's own, 128 + n is
/// death by signal n.
enum ExitCode : int {
  kExitSuccess = 0,
  kExitUsage = 64,           ///< wrong command line
  kExitData = 65,            ///< missing or malformed input file
  kExitNotAssembled = 69,    ///< ranks did not find each other in time: requeue
  kExitInternal = 70,        ///< a bug in Catena
  kExitDoesNotFit = 71,      ///< not enough memory for this configuration
  kExitStorage = 74,         ///< cannot write results: disk full, read-only
  kExitPreempted = 75,       ///< stopped on request, state saved: requeue
  kExitNonFinite = 76,       ///< loss or gradient not finite
  kExitRefused = 77,         ///< agent and launcher of another job, or secret
  kExitConfig = 78,          ///< configuration refused
  kExitNoProgress = 93,      ///< restarts do not help: do not requeue
  kExitTimeLimit = 124,      ///< time limit reached, nothing saved
  kExitNotExecutable = 126,  ///< program to run cannot be run
  kExitNotFound = 127,       ///< program to run was not found
};

/// The program that trains, found beside `catena` or on PATH.
inline constexpr const char* kTrainerName = "catena-train";
/// Environment: the path of the trainer, before all other places.
inline constexpr const char* kTrainerVariable = "CATENA_TRAIN";

/// Environment of a rank that is a process of its own: which one of how many
/// it is, where rank 0 is met ("host:port"), and what all of them know and
/// nobody else does (or a file that holds it).
inline constexpr const char* kRankVariable = "CATENA_RANK";
inline constexpr const char* kWorldSizeVariable = "CATENA_WORLD_SIZE";
inline constexpr const char* kRendezvousVariable = "CATENA_RENDEZVOUS";
inline constexpr const char* kTokenVariable = "CATENA_TOKEN";
inline constexpr const char* kTokenFileVariable = "CATENA_TOKEN_FILE";
/// Where ranks that say different things here are on different nodes, in
/// whatever words; else they are on one if they can share memory.
inline constexpr const char* kNodeVariable = "CATENA_NODE";
/// Of rank 0: a descriptor that listens there already, inherited; so no port
/// is chosen before it is held.
inline constexpr const char* kRendezvousFdVariable = "CATENA_RENDEZVOUS_FD";

/// Environment of a rank that a launcher started: the job, the how many-th
/// start of its ranks this is (from 1), and the folder of the run, which is
/// made if it is not there; its newest valid checkpoint, if it has one, is gone
/// on from. Schedulers say the last, too: deploy/.
inline constexpr const char* kJobVariable = "CATENA_JOB_ID";
inline constexpr const char* kGenerationVariable = "CATENA_GENERATION";
inline constexpr const char* kRunVariable = "CATENA_RUN_DIR";
/// Environment of a rank that runs on cores that were chosen for it: how many
/// ranks, itself among them, these are for.
inline constexpr const char* kSharersVariable = "CATENA_CORE_SHARERS";

/// Environment: an inherited pipe on which a rank says how far it is, one line
/// each: that all ranks have met; what it does from now on ("section load");
/// the steps it has taken ("step 12"); while it waits for another rank, every
/// second, for which and in what ("waits 2 all_reduce (control)"); that it has
/// come to the end of its work, without which code 0 is no success; that it
/// ends because another rank did, or did not answer, and in which exchange, if
/// it was in one ("lost all_reduce (control)"); where `catena train` is to show
/// it, the run's folder ("run /home/me/runs/quickstart").
/// Where it is 1, which is so under mpirun, standard output is that pipe, and
/// what a rank writes there otherwise goes to standard error; it begins with
/// its process ("process 1234"), and ends with the process that started it. One
/// that says sections answers SIGUSR2 with its stack on standard error, and
/// SIGUSR1 with a checkpoint after the step under way.
inline constexpr const char* kControlVariable = "CATENA_CONTROL_FD";
inline constexpr const char* kSaidJoined = "joined";
inline constexpr const char* kSaidStep = "step ";
inline constexpr const char* kSaidSection = "section ";
inline constexpr const char* kSaidWaits = "waits ";
inline constexpr const char* kSaidRun = "run ";
inline constexpr const char* kSaidDone = "done";
inline constexpr const char* kSaidProcess = "process ";
inline constexpr const char* kSaidLost = "lost";

/// Environment of a rank whose agent is a process apart from the launcher: an
/// inherited lease (runtime/base/lease.h), which the agent renews as long as it
/// runs and hears the launcher. When it is over, as the agent was stopped, or
/// the machine suspended, the rank ends at once, with code 70; else ranks would
/// be started in its place while it goes on. Without it, and in programs that
/// do not look, a rank is as free as its agent's end leaves it.
inline constexpr const char* kLeaseVariable = "CATENA_LEASE_FD";

/// `catena train --dashboard[=[ADDRESS:]PORT]`: `catena` serves the run, and
/// the trainer knows the flag, so that it is in its help, and says kSaidRun.
inline constexpr const char* kTrainCommand = "train";
inline constexpr const char* kDashboardFlag = "--dashboard";

/// Sections: until all ranks have met; data, weights and checkpoint; steps; a
/// pass over the validation data; saving; all that follows the last step.
inline constexpr const char* kSectionStart = "start";
inline constexpr const char* kSectionLoad = "load";
inline constexpr const char* kSectionStep = "step";
inline constexpr const char* kSectionValidation = "validation";
inline constexpr const char* kSectionCheckpoint = "checkpoint";
inline constexpr const char* kSectionEnd = "end";

/// Where ranks of one machine share memory they have names for it until all
/// have joined: files of this folder, that begin with the prefix and the job.
/// Who started them removes what ranks that were killed before have left.
inline constexpr const char* kSharedMemoryFolder = "/dev/shm";
inline constexpr const char* kSharedMemoryPrefix = "catena-";

/// The trainer's command by which the launcher has a configuration checked and
/// the run's folder made or found. It prints one JSON object on one line:
///   run, transport  path of the folder, parallel.transport
///   does_not_fit  with --needs: why the memory of this machine is too small
///     for as many ranks as --ranks-here says, or ""
///   rank_bytes, disk_bytes, files  with --needs: as JobNeeds
/// With --dry-run no folder is made, and `run` is where one would be.
inline constexpr const char* kBeginCommand = "begin";

}  // namespace catena
