// Any bytes as the trace of a rank: its events in the form that the header of
// TraceReader says, which can be written again, or Error(kData). The first byte
// chooses whether a header that is right is put before the rest.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <string_view>

#include "launcher/trace_reader.h"
#include "runtime/base/error.h"

namespace {

using catena::launcher::TraceHeader;
using catena::launcher::TraceReader;

constexpr const char* kHeader =
    "{\"otherData\": {\"rank\": 0, \"ranks\": 2, \"steps\": [1, 2], "
    "\"left_out\": 0, \"host\": \"a\", \"steady_ns\": 5, \"unix_ns\": 7}},\n"
    "\"traceEvents\": [\n";

void check(const TraceHeader& header) {
  if (header.rank < 0 || header.rank >= header.ranks) std::abort();
  if (header.left_out < 0 || header.steady_ns < 0 || header.unix_ns < 0) {
    std::abort();
  }
}

void check(const TraceReader::Event& event, const TraceHeader& header) {
  if (event.at("pid") != header.rank || event.dump().empty()) std::abort();
  for (const auto& member : event) {
    for (const auto& inner : member) {
      if (member.is_structured() && inner.is_structured()) std::abort();
    }
  }
  if (event.at("ph") == "M") return;
  for (const char* key : {"ts", "dur"}) {
    const double time = event.at(key);
    if (!(time >= 0 && time <= TraceReader::kMostMicroseconds)) std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  std::string text(reinterpret_cast<const char*>(data), size);
  if (text.starts_with('H')) text.replace(0, 1, kHeader);
  try {
    TraceReader reader(std::make_unique<std::istringstream>(text), "f");
    check(reader.header());
    for (TraceReader::Event event; reader.read(event);) {
      check(event, reader.header());
    }
  } catch (const catena::Error& error) {
    if (error.kind() != catena::ErrorKind::kData) std::abort();
  }
  return 0;
}
