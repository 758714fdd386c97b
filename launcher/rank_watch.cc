#include "launcher/rank_watch.h"

#include <fmt/format.h>

#include <algorithm>

#include "launcher/contract.h"

namespace catena::launcher {
namespace {

constexpr int kTimesLongest = 5;
constexpr std::chrono::seconds kLeast(30);
constexpr std::chrono::minutes kUnseen(30);
/// It says every second that it waits; this long it is believed.
constexpr std::chrono::seconds kWaitIsFresh(3);

struct Named {
  const char* said;
  Section section;
};
constexpr std::array<Named, 6> kNames = {{
    {kSectionStart, Section::kStart},
    {kSectionLoad, Section::kLoad},
    {kSectionStep, Section::kStep},
    {kSectionValidation, Section::kValidation},
    {kSectionCheckpoint, Section::kCheckpoint},
    {kSectionEnd, Section::kEnd},
}};

Duration& longest(SectionTimes& times, Section section) {
  return times.longest.at(static_cast<std::size_t>(section));
}

}  // namespace

const char* name_of(Section section) {
  if (section == Section::kFirstStep) return "first step";
  for (const Named& name : kNames) {
    if (name.section == section) return name.said;
  }
  return "";
}

std::optional<Section> section_named(std::string_view name) {
  for (const Named& known : kNames) {
    if (known.said == name) return known.section;
  }
  return std::nullopt;
}

Duration timeout_of(const SectionTimes& times, Section section) {
  if (times.fixed > Duration()) return times.fixed;
  const Duration seen = times.longest.at(static_cast<std::size_t>(section));
  if (seen == Duration()) return kUnseen;
  return std::max<Duration>(kTimesLongest * seen, kLeast);
}

bool enter(RankWatch& watch, SectionTimes& times, Section section, Time now) {
  if (watch.section) {
    Duration& seen = longest(times, *watch.section);
    seen = std::max(seen, now - watch.since);
  }
  const bool suspected = watch.suspected;
  watch = {.section = section,
           .since = now,
           .due = now + timeout_of(times, section)};
  return suspected;
}

void wait_for(RankWatch& watch, int rank, std::string_view in, Time now) {
  watch.waits_for = rank;
  watch.waits_in = in;
  watch.waited = now;
}

bool waits(const RankWatch& watch, Time now) {
  return watch.waits_for >= 0 && now - watch.waited <= kWaitIsFresh;
}

void close(RankWatch& watch) {
  watch.due.reset();
  watch.suspected = false;
}

WatchVerdict judge(RankWatch& watch, const SectionTimes& times, Time now) {
  if (!watch.due || now < *watch.due) return WatchVerdict::kNone;
  const Duration timeout = timeout_of(times, *watch.section);
  const bool held_up = now - *watch.due > timeout / 2;
  watch.due = now + timeout;
  if (held_up) return WatchVerdict::kNone;
  if (waits(watch, now) &&
      (watch.suspected || now - watch.since < 2 * timeout)) {
    watch.due = now + std::min<Duration>(timeout, kWaitIsFresh);
    return WatchVerdict::kNone;
  }
  if (!watch.suspected) {
    watch.suspected = true;
    return WatchVerdict::kWarn;
  }
  close(watch);
  return WatchVerdict::kHung;
}

std::string watch_text(const RankWatch& watch, std::int64_t step, Time now) {
  const std::chrono::duration<double> age = now - watch.since;
  std::string text =
      fmt::format("has come no further for {:.3g} s: section {}", age.count(),
                  watch.section ? name_of(*watch.section) : "none");
  if (step > 0) text += fmt::format(", after step {}", step);
  if (watch.waits_for >= 0) {
    text += fmt::format("; {} for rank {} in {}",
                        waits(watch, now) ? "waits" : "waited", watch.waits_for,
                        watch.waits_in);
  }
  return text;
}

}  // namespace catena::launcher
