#pragma once

namespace catena {

/// The first SIGINT or SIGTERM asks the run to end after the step under way;
/// the second ends the process at once, unless a launcher has started it
/// (control_line::is_open()), which kills who is to end at once: Slurm signals
/// launcher and ranks, and the launcher its ranks again. SIGALRM is as SIGTERM:
/// mpirun passes it on to all ranks, and that one not.
void install_stop_signals();
/// From now on each ends the process at once, as it is without the above.
void restore_stop_signals();
/// The signal that asked, or 0.
[[nodiscard]] int stop_signal();

/// From now on SIGUSR1 asks for a checkpoint after the step under way.
void install_save_signal();
/// Whether it did since the last call.
[[nodiscard]] bool take_save_signal();

}  // namespace catena
