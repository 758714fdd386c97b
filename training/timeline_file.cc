// The part of Timeline that writes its file.

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>

#include "parallel/tag.h"
#include "runtime/base/error.h"
#include "runtime/base/files.h"
#include "runtime/base/machine.h"
#include "training/timeline.h"

namespace catena {
namespace {

constexpr int kCompute = 1;  ///< its track; the others follow

/// The number behind "chunk ", or -1.
int chunk_of(const std::string& exchange) {
  constexpr std::string_view kWord = "chunk ";
  const auto at = exchange.find(kWord);
  return at == std::string::npos
             ? -1
             : std::stoi(exchange.substr(at + kWord.size()));
}

std::int64_t nanoseconds(Timeline::Clock::time_point time) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             time.time_since_epoch())
      .count();
}

/// The calendar's nanoseconds at this time: both clocks are looked at a few
/// times, and those looks count between which the least time went by.
std::int64_t calendar_nanoseconds(Timeline::Clock::time_point time) {
  std::int64_t best = std::numeric_limits<std::int64_t>::max(), ahead = 0;
  for (int i = 0; i < 16; ++i) {
    const std::int64_t before = nanoseconds(Timeline::Clock::now());
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    const std::int64_t took = nanoseconds(Timeline::Clock::now()) - before;
    if (took >= best) continue;
    best = took;
    ahead = std::chrono::duration_cast<std::chrono::nanoseconds>(now).count() -
            before - took / 2;
  }
  return nanoseconds(time) + ahead;
}

std::string quoted(const std::string& text) {
  using nlohmann::json;
  return json(text).dump(-1, ' ', false, json::error_handler_t::replace);
}

}  // namespace

/// The lines of a file.
class Timeline::Writer {
 public:
  Writer(const std::filesystem::path& path, const Timeline& of,
         const Owner& owner)
      : file_(path), pid_(owner.rank), start_(nanoseconds(of.begin())) {
    buffer_ = fmt::format(
        "{{\"displayTimeUnit\": \"ms\", \"otherData\": {{\"rank\": {}, "
        "\"ranks\": {}, \"steps\": [{}, {}], \"left_out\": {}, \"host\": "
        "\"{:016x}\", \"steady_ns\": {}, \"unix_ns\": {}}},\n"
        "\"traceEvents\": [\n",
        owner.rank, owner.ranks, of.steps_.front().number,
        of.steps_.back().number, of.left_out_, host_id(), start_,
        calendar_nanoseconds(of.begin()));
    describe("process_name", kCompute,
             quoted(fmt::format("rank {} on {}", pid_, host_name())));
    place("process_sort_index", kCompute, pid_);
  }

  void name_track(int track, const std::string& name) {
    buffer_ += ",\n";
    describe("thread_name", track, quoted(name));
    place("thread_sort_index", track, track);
  }

  /// `more`: further members of the event, behind a comma.
  void add(int track, std::string_view category, std::string_view name,
           Clock::time_point begin, Clock::time_point end,
           std::string_view more = "") {
    constexpr std::size_t kPiece = 1 << 16;
    const std::int64_t from = nanoseconds(begin) - start_;
    const std::int64_t took = nanoseconds(end) - nanoseconds(begin);
    buffer_ += fmt::format(
        ",\n{{\"ph\": \"X\", \"pid\": {}, \"tid\": {}, \"cat\": \"{}\", "
        "\"name\": \"{}\", \"ts\": {}.{:03}, \"dur\": {}.{:03}{}}}",
        pid_, track, category, name, from / 1000, from % 1000, took / 1000,
        took % 1000, more);
    if (buffer_.size() < kPiece) return;
    file_.write(buffer_);
    buffer_.clear();
  }

  void finish() {
    file_.write(buffer_ + "\n]}\n");
    file_.commit();
  }

 private:
  void describe(std::string_view what, int track, const std::string& name) {
    buffer_ += fmt::format(
        "{{\"ph\": \"M\", \"pid\": {}, \"tid\": {}, \"name\": \"{}\", "
        "\"args\": {{\"name\": {}}}}}",
        pid_, track, what, name);
  }
  void place(std::string_view what, int track, int index) {
    buffer_ += fmt::format(
        ",\n{{\"ph\": \"M\", \"pid\": {}, \"tid\": {}, \"name\": \"{}\", "
        "\"args\": {{\"sort_index\": {}}}}}",
        pid_, track, what, index);
  }

  AtomicFile file_;
  int pid_;
  std::int64_t start_;
  std::string buffer_;
};

void Timeline::write(const std::filesystem::path& path,
                     const Owner& owner) const {
  CATENA_CHECK(!empty() && !recording_, "[timeline] no step is written down");
  Writer writer(path, *this, owner);
  writer.name_track(kCompute, "compute");
  for (const Step& step : steps_) {
    writer.add(kCompute, "step", fmt::format("step {}", step.number),
               step.begin, step.end);
  }
  for (const Span& span : computed_) {
    writer.add(kCompute, span.category, span.name, span.begin, span.end);
  }
  int track = kCompute + 1;
  for (const auto& [chunk, exchanges] : by_chunk()) {
    const std::string name =
        chunk < 0 ? "wire, all chunks" : fmt::format("wire, chunk {}", chunk);
    // The first of these tracks that is free takes the next exchange.
    std::vector<Clock::time_point> busy_until;
    for (const Exchange& exchange : exchanges) {
      auto lane = std::find_if(
          busy_until.begin(), busy_until.end(),
          [&](Clock::time_point until) { return until <= exchange.begin; });
      if (lane == busy_until.end()) {
        lane = busy_until.insert(lane, Clock::time_point());
      }
      *lane = exchange.end;
      writer.add(track + static_cast<int>(lane - busy_until.begin()),
                 "exchange", text_of(exchange.tag), exchange.begin,
                 exchange.end,
                 fmt::format(", \"args\": {{\"sent_bytes\": {}}}",
                             exchange.sent_bytes));
    }
    for (std::size_t i = 0; i < busy_until.size(); ++i) {
      writer.name_track(track++,
                        i == 0 ? name : fmt::format("{} ({})", name, i + 1));
    }
  }
  writer.finish();
}

std::map<int, std::vector<Timeline::Exchange>> Timeline::by_chunk() const {
  std::map<int, std::vector<Exchange>> chunks;
  for (const Exchange& exchange : exchanged_) {
    chunks[chunk_of(text_of(exchange.tag))].push_back(exchange);
  }
  for (auto& chunk : chunks) {
    std::stable_sort(
        chunk.second.begin(), chunk.second.end(),
        [](const Exchange& a, const Exchange& b) { return a.begin < b.begin; });
  }
  return chunks;
}

}  // namespace catena
