#pragma once

#include <cstddef>

namespace catena::testing {

/// Calls of operator new in this program so far, on any thread. Needs
/// allocation_counter.cc among the program's sources.
[[nodiscard]] std::size_t allocation_count();

}  // namespace catena::testing
