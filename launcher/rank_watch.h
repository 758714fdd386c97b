#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "launcher/messages.h"

namespace catena::launcher {

/// What a rank is doing, as it says (launcher/contract.h). Its first step,
/// which touches all memory for the first time, is a section of its own.
enum class Section {
  kStart,
  kLoad,
  kFirstStep,
  kStep,
  kValidation,
  kCheckpoint,
  kEnd,
};
inline constexpr std::size_t kSections = 7;
[[nodiscard]] const char* name_of(Section section);  ///< "first step"
[[nodiscard]] std::optional<Section> section_named(std::string_view name);

/// How long ranks took for a section, or for each step of it, and so how long
/// one may: five times the longest that was seen of any rank of this agent, 30
/// seconds at least, and half an hour as long as none was. They outlive
/// generations; open sections do not.
struct SectionTimes {
  Duration fixed = {};  ///< 0: as learned; else the same for all
  std::array<Duration, kSections> longest = {};
};
[[nodiscard]] Duration timeout_of(const SectionTimes& times, Section section);

/// Whether a rank still does something, by what it says and by this side's
/// clock: pure, as RankState is. One that says no sections is not watched.
///
/// A timeout is a suspicion: only a second one is the verdict. A rank that says
/// it waits for another is not the one that hangs, and has a deadline of its
/// own (parallel.timeout): it is suspected after twice the time, and never
/// judged.
struct RankWatch {
  std::optional<Section> section = {};
  Time since = {};  ///< it, or its step under way, began
  std::optional<Time> due = {};
  bool suspected = false;
  int waits_for = -1;         ///< -1: for none
  std::string waits_in = {};  ///< "all_reduce (control)"
  Time waited = {};           ///< it last said so
};

/// It does this from now on. Returns whether it had been suspected.
bool enter(RankWatch& watch, SectionTimes& times, Section section, Time now);
/// It waits for a rank, and has said so now.
void wait_for(RankWatch& watch, int rank, std::string_view in, Time now);
/// Whether it has said so lately, and so still does.
[[nodiscard]] bool waits(const RankWatch& watch, Time now);
/// It is not watched any more.
void close(RankWatch& watch);

enum class WatchVerdict { kNone, kWarn, kHung };
/// To be called when watch.due has passed. One that comes later than by half
/// the timeout was held up itself, and begins anew.
[[nodiscard]] WatchVerdict judge(RankWatch& watch, const SectionTimes& times,
                                 Time now);

/// "says nothing for 31 s: in section step, after step 12; waits for rank 2 in
/// all_reduce (control)".
[[nodiscard]] std::string watch_text(const RankWatch& watch, std::int64_t step,
                                     Time now);

}  // namespace catena::launcher
