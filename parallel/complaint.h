#pragma once

#include <cstdint>
#include <string>
#include <string_view>

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

/// "rank 3 gave up: ..."; where that is said of another already, `why`.
[[nodiscard]] std::string gave_up(int rank, std::string_view why);

}  // namespace catena
