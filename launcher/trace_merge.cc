#include "launcher/trace_merge.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstring>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>
#include <utility>

#include "launcher/trace_reader.h"
#include "runtime/base/error.h"
#include "runtime/base/files.h"

namespace catena::launcher {
namespace {

namespace fs = std::filesystem;

constexpr const char* kFolder = "trace";
constexpr std::string_view kPrefix = "rank-";
constexpr double kNanosecondsPerMicrosecond = 1000;

struct TraceFile {
  fs::path path;
  TraceHeader header;
};

TraceReader open_trace(const fs::path& path) {
  auto file = std::make_unique<std::ifstream>(path);
  if (!*file) {
    fail(ErrorKind::kIo, "{}: cannot be read: {}", path.string(),
         std::strerror(errno));
  }
  return TraceReader(std::move(file), path.string());
}

/// The files of ranks, by rank.
std::map<int, fs::path> files_of(const fs::path& run) {
  std::map<int, fs::path> files;
  std::error_code none;
  for (const auto& entry : fs::directory_iterator(run / kFolder, none)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(kPrefix) || !name.ends_with(".json")) continue;
    const std::string digits = entry.path().stem().string();
    int rank = -1;
    const char* end = digits.data() + digits.size();
    const auto [stop, error] =
        std::from_chars(digits.data() + kPrefix.size(), end, rank);
    if (error == std::errc() && stop == end) files[rank] = entry.path();
  }
  if (files.empty()) {
    fail(ErrorKind::kUsage,
         "{}: there is no trace; `catena train --trace steps=20:22` or `catena "
         "launch --trace steps=20:22` writes one",
         (run / kFolder).string());
  }
  return files;
}

/// Those of the same steps and ranks as the first.
std::vector<TraceFile> find_traces(const fs::path& run) {
  std::vector<TraceFile> traces;
  for (const auto& file : files_of(run)) {
    const TraceHeader header = open_trace(file.second).header();
    if (header.rank != file.first) {
      fail(ErrorKind::kData, "{}: is the trace of rank {}; trace again",
           file.second.string(), header.rank);
    }
    if (!traces.empty()) {
      const TraceHeader& one = traces.front().header;
      const bool same = header.ranks == one.ranks &&
                        header.first == one.first && header.last == one.last;
      if (!same) continue;
    }
    traces.push_back({file.second, header});
  }
  return traces;
}

std::vector<int> missing_in(const std::vector<TraceFile>& traces) {
  std::set<int> there;
  for (const TraceFile& trace : traces) there.insert(trace.header.rank);
  std::vector<int> missing;
  for (int rank = 0; rank < traces.front().header.ranks; ++rank) {
    if (!there.contains(rank)) missing.push_back(rank);
  }
  return missing;
}

/// How much later than that of the earliest each rank's time 0 was: of ranks of
/// one host the first says by the calendar when it was, and the others follow
/// by the clock they share.
std::vector<std::int64_t> delays(const std::vector<TraceFile>& traces) {
  std::map<std::string, std::int64_t> ahead;  // of the host's clock
  std::vector<std::int64_t> times;
  for (const TraceFile& trace : traces) {
    const TraceHeader& header = trace.header;
    const auto of_host =
        ahead.try_emplace(header.host, header.unix_ns - header.steady_ns).first;
    times.push_back(header.steady_ns + of_host->second);
  }
  const std::int64_t begin = *std::min_element(times.begin(), times.end());
  for (std::int64_t& time : times) time -= begin;
  return times;
}

void shift(TraceReader::Event& event, std::int64_t nanoseconds) {
  const auto at = event.find("ts");
  if (at == event.end() || !at->is_number()) return;
  const auto whole =
      std::llround(at->get<double>() * kNanosecondsPerMicrosecond);
  *at = static_cast<double>(whole + nanoseconds) / kNanosecondsPerMicrosecond;
}

/// Text into a file, in pieces.
class EventFile {
 public:
  explicit EventFile(const fs::path& path)
      : file_(path),
        text_("{\"displayTimeUnit\": \"ms\", \"traceEvents\": [") {}

  void add(const TraceReader::Event& event) {
    constexpr std::size_t kPiece = 1 << 16;
    text_ += std::exchange(separator_, ",\n") + event.dump();
    if (text_.size() < kPiece) return;
    file_.write(text_);
    text_.clear();
  }
  void finish() {
    file_.write(text_ + "\n]}\n");
    file_.commit();
  }

 private:
  AtomicFile file_;
  std::string text_;
  const char* separator_ = "\n";
};

}  // namespace

MergedTrace merge_traces(const fs::path& run, const fs::path& output) {
  const std::vector<TraceFile> traces = find_traces(run);
  const std::vector<std::int64_t> later = delays(traces);
  const TraceHeader& one = traces.front().header;
  MergedTrace merged{.ranks = static_cast<int>(traces.size()),
                     .first = one.first,
                     .last = one.last,
                     .missing = missing_in(traces)};
  std::set<std::string> hosts;
  EventFile file(output);
  for (std::size_t i = 0; i < traces.size(); ++i) {
    // Opened again, as there may be more ranks than files may be open.
    TraceReader reader = open_trace(traces[i].path);
    if (reader.header() != traces[i].header) {
      fail(ErrorKind::kData, "{}: was written anew just now; merge again",
           traces[i].path.string());
    }
    hosts.insert(reader.header().host);
    merged.left_out += reader.header().left_out;
    for (TraceReader::Event event; reader.read(event);) {
      shift(event, later[i]);
      file.add(event);
      merged.events += event.at("ph") == "X" ? 1 : 0;
    }
  }
  file.finish();
  merged.hosts = static_cast<int>(hosts.size());
  return merged;
}

}  // namespace catena::launcher
