#pragma once

#include "launcher/preflight/probes.h"

namespace catena::launcher {

/// Looks at this machine. 1 MiB is written to the run's folder, synced and
/// removed. A program is read whole; of other files larger than 4 MiB, the size
/// and sixteen pieces of 64 KiB, evenly spread: who changed a byte in between
/// is found by the trainer, who compares all. A folder is the names of all its
/// files, and, in their order, what they hold, until some 64 MiB are read.
[[nodiscard]] MachineFacts probe_machine(const ProbeMachine& probe);

/// Multiplies and adds numbers in registers, on every core for 0.02 s, thrice:
/// the best, by the threads' own time. Who else is at work there is not seen.
[[nodiscard]] ComputeFacts probe_compute();

}  // namespace catena::launcher
