#include "parallel/traffic.h"

namespace catena {
namespace {

void add(PhaseTraffic& to, const PhaseTraffic& from) {
  to.collectives += from.collectives;
  to.sent_bytes += from.sent_bytes;
  to.exposed_seconds += from.exposed_seconds;
  to.overlapped_seconds += from.overlapped_seconds;
}

}  // namespace

PhaseTraffic Traffic::total() const {
  PhaseTraffic sum;
  for (const PhaseTraffic& phase : phases) add(sum, phase);
  return sum;
}

Traffic& Traffic::operator+=(const Traffic& other) {
  for (std::size_t i = 0; i < phases.size(); ++i) {
    add(phases[i], other.phases[i]);
  }
  later_rounds += other.later_rounds;
  rows_beyond_budget += other.rows_beyond_budget;
  return *this;
}

}  // namespace catena
