#include "parallel/tag.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>

namespace catena {
namespace {

constexpr std::array<std::string_view, 7> kCollectives = {
    "all_to_all_v", "all_gather_v", "reduce_scatter", "all_reduce",
    "broadcast",    "gather_v",     "barrier"};
constexpr std::array<std::string_view, kPhaseCount> kPhases = {
    "control",          "plan",
    "dispatch",         "combine",
    "combine gradient", "dispatch gradient",
    "gradients",        "parameters"};

template <std::size_t size>
std::string_view name(const std::array<std::string_view, size>& names,
                      std::uint64_t number) {
  return number < size ? names[number] : "unknown";
}

std::uint64_t bits(std::int16_t number) {
  return static_cast<std::uint16_t>(number);
}

std::int16_t number(std::uint64_t bits) {
  return static_cast<std::int16_t>(bits & 0xffff);
}

}  // namespace

std::string_view name(Phase phase) {
  return name(kPhases, static_cast<std::uint64_t>(phase));
}

std::string Tag::text() const {
  std::string text(name(kPhases, static_cast<std::uint64_t>(phase)));
  if (layer >= 0) text += fmt::format(", layer {}", layer);
  if (iteration >= 0) text += fmt::format(", iteration {}", iteration);
  if (chunk >= 0) text += fmt::format(", chunk {}", chunk);
  return text;
}

std::uint64_t packed(Collective collective, const Tag& tag) {
  return static_cast<std::uint64_t>(collective) << 56 |
         static_cast<std::uint64_t>(tag.phase) << 48 | bits(tag.layer) << 32 |
         bits(tag.iteration) << 16 | bits(tag.chunk);
}

std::string text_of(std::uint64_t packed) {
  const Tag tag{.phase = static_cast<Phase>(packed >> 48 & 0xff),
                .layer = number(packed >> 32),
                .iteration = number(packed >> 16),
                .chunk = number(packed)};
  return fmt::format("{} ({})", name(kCollectives, packed >> 56), tag.text());
}

std::string_view exchange_in(std::string_view text) {
  std::size_t begin = 0, end = 0;
  for (const std::string_view collective : kCollectives) {
    const auto at = text.rfind(fmt::format("{} (", collective));
    if (at == text.npos) continue;
    const auto close = text.find(')', at);
    if (close == text.npos || close < end) continue;
    // One's name may end with another's: all_gather_v.
    begin = close == end ? std::min(begin, at) : at;
    end = close;
  }
  return end == 0 ? "" : text.substr(begin, end + 1 - begin);
}

}  // namespace catena
