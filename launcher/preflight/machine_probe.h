#pragma once

#include "launcher/preflight/probes.h"

namespace catena::launcher {

/// Looks at this machine. 1 MiB is written to the run's folder, synced and
/// removed. A program is read whole. All other files share 64 MiB, each as
/// much: of one larger than its share, or than 4 MiB, the size and at most
/// sixteen pieces of 64 KiB are read, evenly spread: who changed a byte in
/// between is found by the trainer, who compares all. A folder is the names of
/// all its files, and, in their order, what they hold, until its share is read;
/// what may not be entered there is passed over. Of files, the first are looked
/// at, as files_compared() says.
[[nodiscard]] MachineFacts probe_machine(const ProbeMachine& probe);

/// Multiplies and adds numbers in registers, on every core for 0.02 s, thrice:
/// the best, by the threads' own time. Who else is at work there is not seen.
[[nodiscard]] ComputeFacts probe_compute();

}  // namespace catena::launcher
