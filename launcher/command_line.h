#pragma once

#include <string>
#include <vector>

namespace catena::launcher {

/// The program `catena`: carries out the command that `arguments` (without
/// the program's own name) ask for. Help goes to standard output, problems
/// to standard error in one line.
/// Returns: the exit code. Commands of the trainer replace the process and
/// do not return.
[[nodiscard]] int run(const std::vector<std::string>& arguments);

}  // namespace catena::launcher
