#include "launcher/trace_reader.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "runtime/base/error.h"

namespace catena::launcher {
namespace {

using Json = TraceReader::Event;

/// Of a line: that of an event takes some 200 bytes.
constexpr std::size_t kMostBytes = 8192;
constexpr std::int64_t kMostRanks = 65536;
constexpr std::int64_t kMostNumber = 1'000'000'000'000'000;
/// 30 years since a boot and the year 2096: sums of two of each fit 64 bits.
constexpr std::int64_t kMostSteady = 1'000'000'000'000'000'000;
constexpr std::int64_t kMostUnix = 4'000'000'000'000'000'000;

bool is_whole(const Json& value, std::int64_t least, std::int64_t most) {
  if (!value.is_number_integer()) return false;
  // One beyond 64 bits with a sign would come out negative.
  constexpr auto kMost =
      static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
  if (value.is_number_unsigned() && value.get<std::uint64_t>() > kMost) {
    return false;
  }
  const auto number = value.get<std::int64_t>();
  return least <= number && number <= most;
}

bool is_time(const Json& event, const char* key) {
  const auto at = event.find(key);
  if (at == event.end() || !at->is_number()) return false;
  const auto time = at->get<double>();
  return time >= 0 && time <= TraceReader::kMostMicroseconds;
}

bool is_text(const Json& event, const char* key) {
  const auto at = event.find(key);
  return at != event.end() && at->is_string();
}

bool is_flat(const Json& object) {
  return std::none_of(object.begin(), object.end(), [](const Json& member) {
    return member.is_structured();
  });
}

}  // namespace

TraceReader::TraceReader(std::unique_ptr<std::istream> stream, std::string name)
    : stream_(std::move(stream)), name_(std::move(name)), line_(kMostBytes) {
  read_header();
  if (next() != "\"traceEvents\": [") refuse("has no list of events");
}

void TraceReader::read_header() {
  constexpr const char* kNone = "is no trace that `catena train` wrote";
  std::string line = next();
  if (line.ends_with(',')) line.back() = '}';
  const Json json = Json::parse(line, nullptr, false);
  const auto other = json.is_object() ? json.find("otherData") : json.end();
  if (other == json.end() || !other->is_object()) refuse(kNone);
  const Json& about = *other;
  const auto number = [&](const Json& of, const char* key, std::int64_t least,
                          std::int64_t most) {
    const auto at = of.find(key);
    if (at == of.end() || !is_whole(*at, least, most)) refuse(kNone);
    return at->get<std::int64_t>();
  };
  header_.ranks = static_cast<int>(number(about, "ranks", 1, kMostRanks));
  header_.rank = static_cast<int>(number(about, "rank", 0, header_.ranks - 1));
  header_.left_out = number(about, "left_out", 0, kMostNumber);
  header_.steady_ns = number(about, "steady_ns", 0, kMostSteady);
  header_.unix_ns = number(about, "unix_ns", 0, kMostUnix);
  const auto steps = about.find("steps");
  if (steps == about.end() || !steps->is_array() || steps->size() != 2 ||
      !is_whole(steps->front(), 1, kMostNumber) ||
      !is_whole(steps->back(), 1, kMostNumber) || !is_text(about, "host")) {
    refuse(kNone);
  }
  header_.first = steps->front().get<std::int64_t>();
  header_.last = steps->back().get<std::int64_t>();
  header_.host = about.at("host").get<std::string>();
}

bool TraceReader::read(Event& event) {
  std::string line = next();
  if (line == "]}") return false;
  if (line.ends_with(',')) line.pop_back();
  event = Json::parse(line, nullptr, false);
  check(event);
  return true;
}

void TraceReader::check(const Event& event) const {
  constexpr int kMostTracks = 1'000'000;
  if (!event.is_object() || !is_text(event, "ph") || !is_text(event, "name")) {
    refuse("is no event");
  }
  for (const auto& [key, value] : event.items()) {
    const bool flat = key == "args" ? value.is_object() && is_flat(value)
                                    : !value.is_structured();
    if (!flat) refuse("is an event of another form");
  }
  const auto kind = event.at("ph").get<std::string>();
  const bool whole = kind == "M" || (kind == "X" && is_time(event, "ts") &&
                                     is_time(event, "dur"));
  const auto pid = event.find("pid"), tid = event.find("tid");
  if (!whole || pid == event.end() || tid == event.end() ||
      !is_whole(*pid, header_.rank, header_.rank) ||
      !is_whole(*tid, 0, kMostTracks)) {
    refuse("is an event without time, or of another rank");
  }
}

std::string TraceReader::next() {
  ++number_;
  stream_->getline(line_.data(), static_cast<std::streamsize>(line_.size()));
  // The end of a line is counted, and is not there without one.
  const auto length = static_cast<std::size_t>(stream_->gcount());
  if (!stream_->good()) {
    refuse(length == line_.size() - 1
               ? "is longer than any that `catena train` writes"
               : "is missing or not whole: the file is cut short");
  }
  return {line_.data(), length - 1};
}

void TraceReader::refuse(const char* why) const {
  fail(ErrorKind::kData, "{}:{}: {}; trace these steps again", name_, number_,
       why);
}

}  // namespace catena::launcher
