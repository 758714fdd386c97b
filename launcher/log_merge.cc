#include "launcher/log_merge.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <map>
#include <unordered_map>

#include "launcher/run_files.h"
#include "launcher/run_status.h"

namespace catena::launcher {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kGeneration = "-- generation ";

/// What a line is compared by.
std::string_view key_of(std::string_view line) {
  if (!line.starts_with(kGeneration)) return line;
  return line.substr(0, line.find(',', kGeneration.size()));
}

class Merge {
 public:
  Merge(const std::vector<RankLines>& ranks, std::size_t width)
      : ranks_(ranks), width_(width), next_(ranks.size(), 0) {
    for (std::size_t i = 0; i < ranks.size(); ++i) {
      for (const std::string& line : ranks[i].lines) {
        ++left_[key_of(line)][i];
      }
    }
  }

  std::string run() {
    std::vector<std::size_t> heads = heads_to_write();
    while (!heads.empty()) {
      write(heads);
      heads = heads_to_write();
    }
    return std::move(text_);
  }

 private:
  [[nodiscard]] bool has_head(std::size_t i) const {
    return next_[i] < ranks_[i].lines.size();
  }
  [[nodiscard]] std::string_view head(std::size_t i) const {
    return key_of(ranks_[i].lines[next_[i]]);
  }

  /// Those whose next line is the same and is met by every rank that still has
  /// it. Where orders cross there are none: then the first rank goes on.
  [[nodiscard]] std::vector<std::size_t> heads_to_write() const {
    std::map<std::string_view, std::vector<std::size_t>> heads;
    std::vector<std::string_view> order;
    for (std::size_t i = 0; i < ranks_.size(); ++i) {
      if (!has_head(i)) continue;
      auto& same = heads[head(i)];
      if (same.empty()) order.push_back(head(i));
      same.push_back(i);
    }
    if (order.empty()) return {};
    for (const std::string_view key : order) {
      // A generation begins when all have said what they had to say before.
      if (key.starts_with(kGeneration)) continue;
      if (heads.at(key).size() == left_.at(key).size()) return heads.at(key);
    }
    return fallback(heads, order);
  }

  static std::vector<std::size_t> fallback(
      const std::map<std::string_view, std::vector<std::size_t>>& heads,
      const std::vector<std::string_view>& order) {
    for (const std::string_view key : order) {
      if (!key.starts_with(kGeneration)) return heads.at(key);
    }
    // Only marks of generations: the earliest first. Numbers of more digits
    // are later ones.
    const auto earliest = std::min_element(
        order.begin(), order.end(), [](std::string_view a, std::string_view b) {
          return std::pair(a.size(), a) < std::pair(b.size(), b);
        });
    return heads.at(*earliest);
  }

  void write(const std::vector<std::size_t>& heads) {
    std::vector<int> ranks;
    const std::string& line = ranks_[heads[0]].lines[next_[heads[0]]];
    for (const std::size_t i : heads) {
      auto& left = left_.at(head(i));
      if (--left.at(i) == 0) left.erase(i);
      ranks.push_back(ranks_[i].rank);
    }
    for (const std::size_t i : heads) ++next_[i];
    const std::string prefix = "[" + ranks_text(ranks) + "]";
    text_ += fmt::format("{:<{}} {}\n", prefix, width_, line);
  }

  const std::vector<RankLines>& ranks_;
  const std::size_t width_;
  std::vector<std::size_t> next_;
  /// How often each rank has a line still to come.
  std::unordered_map<std::string_view, std::map<std::size_t, std::size_t>>
      left_;
  std::string text_;
};

}  // namespace

std::string ranks_text(const std::vector<int>& ranks) {
  std::string text;
  for (std::size_t i = 0; i < ranks.size();) {
    std::size_t last = i;
    while (last + 1 < ranks.size() && ranks[last + 1] == ranks[last] + 1) {
      ++last;
    }
    if (!text.empty()) text += ",";
    text += fmt::format("{}", ranks[i]);
    if (last > i) text += fmt::format("-{}", ranks[last]);
    i = last + 1;
  }
  return text;
}

std::string merge_lines(const std::vector<RankLines>& ranks,
                        std::size_t width) {
  return Merge(ranks, width).run();
}

RunLogs::RunLogs(fs::path run, std::vector<int> ranks)
    : run_(std::move(run)), wanted_(std::move(ranks)) {}

void RunLogs::find() {
  std::error_code none;
  const bool launched = fs::exists(run_ / "job.json", none);
  const auto path_of = [&](int rank) {
    return launched ? rank_log(run_, rank)
                    : rank_folder(run_, rank) / "log.txt";
  };
  const auto add = [&](int rank) {
    const bool known =
        std::any_of(files_.begin(), files_.end(),
                    [&](const Log& log) { return log.rank == rank; });
    if (known || !fs::exists(path_of(rank), none)) return known;
    files_.push_back(
        {rank,
         GrowingFile(path_of(rank), std::numeric_limits<std::int64_t>::max())});
    return true;
  };
  for (const int rank : wanted_) add(rank);
  if (!wanted_.empty()) return;
  for (int rank = static_cast<int>(files_.size()); add(rank);) ++rank;
}

std::vector<RankLines> RunLogs::read() {
  find();
  std::vector<RankLines> ranks;
  for (Log& log : files_) {
    std::vector<std::string> lines = log.file.lines();
    if (!lines.empty()) ranks.push_back({log.rank, std::move(lines)});
  }
  return ranks;
}

}  // namespace catena::launcher
