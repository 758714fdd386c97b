#include "parallel/traffic.h"

#include <algorithm>
#include <utility>

namespace catena {
namespace {

void add(PhaseTraffic& to, const PhaseTraffic& from) {
  to.collectives += from.collectives;
  to.sent_bytes += from.sent_bytes;
  to.across_bytes += from.across_bytes;
  to.exposed_seconds += from.exposed_seconds;
  to.overlapped_seconds += from.overlapped_seconds;
}

}  // namespace

PhaseTraffic Traffic::total() const {
  PhaseTraffic sum;
  for (const PhaseTraffic& phase : phases) add(sum, phase);
  sum.overlapped_seconds = overlapped_seconds;
  return sum;
}

Traffic& Traffic::operator+=(const Traffic& other) {
  for (std::size_t i = 0; i < phases.size(); ++i) {
    add(phases[i], other.phases[i]);
  }
  overlapped_seconds += other.overlapped_seconds;
  later_rounds += other.later_rounds;
  rows_beyond_budget += other.rows_beyond_budget;
  return *this;
}

void TrafficCounter::begin(Phase phase, double now) {
  pass(now);
  ++under_way_[static_cast<std::size_t>(phase)];
}

void TrafficCounter::wait(Phase phase, double now) {
  pass(now);
  ++waited_for_[static_cast<std::size_t>(phase)];
}

void TrafficCounter::end(Phase phase, bool waited_for, double now) {
  pass(now);
  --under_way_[static_cast<std::size_t>(phase)];
  if (waited_for) --waited_for_[static_cast<std::size_t>(phase)];
}

Traffic TrafficCounter::take(double now) {
  pass(now);
  return std::exchange(traffic_, {});
}

void TrafficCounter::pass(double now) {
  const double seconds = std::max(0.0, now - std::exchange(since_, now));
  const auto any = [](const Counts& counts) {
    return std::any_of(counts.begin(), counts.end(),
                       [](int count) { return count > 0; });
  };
  const bool waits = any(waited_for_);
  for (std::size_t i = 0; i < kPhaseCount; ++i) {
    PhaseTraffic& phase = traffic_.phases[i];
    if (waited_for_[i] > 0) phase.exposed_seconds += seconds;
    if (!waits && under_way_[i] > 0) phase.overlapped_seconds += seconds;
  }
  if (!waits && any(under_way_)) traffic_.overlapped_seconds += seconds;
}

}  // namespace catena
