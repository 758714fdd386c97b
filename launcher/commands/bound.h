#pragma once

#include <string>
#include <vector>

#include "launcher/binding.h"

namespace catena::launcher {

/// `catena bound HOW PROGRAM [ARGUMENT]...` becomes the program, on its share
/// of the cores of this machine: for ranks that mpirun starts, which says which
/// one of how many each of them is there (OMPI_COMM_WORLD_LOCAL_RANK and
/// _SIZE). A launcher has it called, nobody else. Does not return. Throws:
/// Error(kUsage) where an argument or a variable is missing or wrong;
/// Error(kUnsupported) where the program cannot be run; as machine_here().
[[noreturn]] void run_bound(const std::vector<std::string>& arguments);

/// What is put before a program so that this is called; this program's own path
/// comes first. Nothing with kNone.
[[nodiscard]] std::vector<std::string> bound_command(Bind how);

}  // namespace catena::launcher
