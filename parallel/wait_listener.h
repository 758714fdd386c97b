#pragma once

#include <cstdint>

namespace catena {

/// An exchange that a rank waits for.
struct Wait {
  int rank, missing;  ///< who, and one that has not done its part
  std::uint64_t tag;  ///< see text_of() of parallel/tag.h
  double seconds;
};

/// Is called in the waiting rank's thread after every second of a wait, and
/// before it gives up. One for the process; null: none. It must not throw.
using WaitListener = void (*)(const Wait&);
void set_wait_listener(WaitListener listener);

}  // namespace catena
