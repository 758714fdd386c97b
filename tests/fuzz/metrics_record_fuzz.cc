// Any bytes as a line of metrics.jsonl, of routing.jsonl and of journal.jsonl:
// nothing, or a record that keeps what its header says.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "launcher/monitor/metrics_record.h"
#include "launcher/monitor/recoveries.h"

namespace {

using catena::launcher::MetricsRecord;

void check(const MetricsRecord& record) {
  if (record.step < 0) std::abort();
  const bool event = record.kind == MetricsRecord::Kind::kEvent;
  if (event == record.event.empty()) std::abort();
  for (const MetricsRecord::Phase& phase : record.phases) {
    // Sums are made of these.
    if (!(phase.exposed >= 0) || !(phase.overlapped >= 0)) std::abort();
    if (!(phase.bytes >= 0) || !(phase.across_bytes >= 0)) std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  const std::string_view line(reinterpret_cast<const char*>(data), size);
  if (const auto record = catena::launcher::parse_metrics(line)) {
    check(*record);
  }
  if (const auto record = catena::launcher::parse_routing(line)) {
    const std::size_t experts = record->load.size();
    const std::size_t pairs = record->transitions.size();
    if (record->step < 0 || record->layer < 0 || experts == 0) std::abort();
    if (pairs != 0 && pairs != experts * experts) std::abort();
  }
  catena::launcher::Recoveries recoveries;
  for (int twice = 0; twice < 2; ++twice) recoveries.take(line);
  if (!(recoveries.lost_steps >= 0)) std::abort();
  return 0;
}
