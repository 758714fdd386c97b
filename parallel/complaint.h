#pragma once

#include <cstdint>
#include <string>

namespace catena {

/// What transports say of ranks that do not do their part, in the same words.

/// One side of a message.
struct MessageSide {
  int rank;
  std::int64_t bytes;
  std::uint64_t tag;
};
/// "ranks are not in step: rank 0 sends 8 bytes of ..., rank 1 expects ...".
[[nodiscard]] std::string not_in_step(const MessageSide& sender,
                                      const MessageSide& receiver);

/// "rank 3 has ended, and rank 0 waits for it in ...".
[[nodiscard]] std::string has_ended(int peer, int rank, std::uint64_t tag);

/// "rank 3 gave up: ...".
[[nodiscard]] std::string gave_up(int rank, const std::string& why);

}  // namespace catena
