#include "parallel/complaint.h"

#include <fmt/format.h>

#include "parallel/tag.h"

namespace catena {

std::string not_in_step(const MessageSide& sender,
                        const MessageSide& receiver) {
  return fmt::format(
      "ranks are not in step: rank {} sends {} bytes of {}, rank {} expects "
      "{} bytes of {}",
      sender.rank, sender.bytes, text_of(sender.tag), receiver.rank,
      receiver.bytes, text_of(receiver.tag));
}

std::string has_ended(int peer, int rank, std::uint64_t tag) {
  return fmt::format("rank {} has ended, and rank {} waits for it in {}", peer,
                     rank, text_of(tag));
}

std::string gave_up(int rank, std::string_view why) {
  constexpr std::string_view kRank = "rank ", kGaveUp = " gave up: ";
  if (why.starts_with(kRank)) {
    const auto end = why.find_first_not_of("0123456789", kRank.size());
    if (end != why.npos && end > kRank.size() &&
        why.substr(end).starts_with(kGaveUp)) {
      return std::string(why);
    }
  }
  return fmt::format("rank {} gave up: {}", rank, why);
}

}  // namespace catena
