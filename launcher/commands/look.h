#pragma once

#include <string>
#include <vector>

namespace catena::launcher {

// Commands that look at a run, or end it, from its folder. RUN may be left
// out: the newest one under runs/. ARGUMENTS are without the command's name.
// Return: the exit code. Throw: Usage where there is no such run.

/// `catena status [RUN] [--json]`: how it stands, once.
[[nodiscard]] int status(const std::vector<std::string>& arguments);

/// `catena logs [RUN] [--rank K]... [--tail N] [--follow]`: what ranks wrote,
/// merged. Following ends with the run, or by Ctrl-C.
[[nodiscard]] int logs(const std::vector<std::string>& arguments);

/// `catena watch [RUN] [--every S]`: redrawn on a terminal until "q"; one
/// picture elsewhere.
[[nodiscard]] int watch(const std::vector<std::string>& arguments);

/// `catena stop [RUN] [--now] [--timeout S]`: asks the process that is at work
/// on the run to save and end, or to end at once, and waits for that.
/// 1: it has not ended in time, or is not on this machine.
[[nodiscard]] int stop(const std::vector<std::string>& arguments);

}  // namespace catena::launcher
