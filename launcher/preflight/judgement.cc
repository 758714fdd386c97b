#include "launcher/preflight/judgement.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "launcher/contract.h"
#include "launcher/preflight/units.h"

namespace catena::launcher {
namespace {

constexpr double kDeviations = 3, kRobust = 1.4826;
/// Of few machines it is not known how much they differ.
constexpr double kComputePart = 0.75, kComputePartOfFew = 0.5;
constexpr std::size_t kFew = 4;
/// What a disk takes for a small file says little: far off or nothing.
constexpr double kWritePart = 0.1;
constexpr double kMostClockSeconds = 1;
constexpr double kBandwidthPart = 0.25, kLatencyPart = 0.1;
/// What is faster is no network.
constexpr double kShortestSeconds = 1e-4;

class Judge {
 public:
  Judge(const std::vector<NodeFacts>& nodes,
        const std::vector<LinkFound>& links, const JobNeeds& needs,
        const MachineFacts* here)
      : nodes_(nodes), links_(links), needs_(needs), here_(here) {}

  std::vector<Finding> run() {
    for (std::size_t i = 0; i < nodes_.size(); ++i) {
      node_ = i;
      if (!nodes_[i].silent.empty()) {
        add_missing("answer", nodes_[i].late, nodes_[i].silent);
      }
      judge_clock(nodes_[i]);
      if (nodes_[i].machine) judge_machine(nodes_[i], *nodes_[i].machine);
    }
    judge_speeds();
    judge_links();
    judge_files();
    std::stable_sort(findings_.begin(), findings_.end(),
                     [](const Finding& a, const Finding& b) {
                       if (a.node != b.node) return a.node < b.node;
                       return a.severity > b.severity;
                     });
    return std::move(findings_);
  }

 private:
  Finding& add(Severity severity, const char* probe, std::string text,
               int code = 0) {
    findings_.push_back({.node = static_cast<int>(node_),
                         .severity = severity,
                         .probe = probe,
                         .text = std::move(text),
                         .code = code});
    return findings_.back();
  }

  void add_missing(const char* probe, bool late, std::string text) {
    add(late ? Severity::kSlow : Severity::kBad, probe, std::move(text),
        late ? 0 : kExitNotAssembled);
  }

  void judge_clock(const NodeFacts& node) {
    if (!node.clock_ahead_seconds) return;
    const double ahead = *node.clock_ahead_seconds;
    if (std::abs(ahead) - node.round_trip_seconds / 2 < kMostClockSeconds) {
      return;
    }
    add(Severity::kNoted, "clock",
        fmt::format("its clock is {} {} the launcher's: times in logs will not "
                    "match",
                    seconds_text(std::abs(ahead)),
                    ahead > 0 ? "ahead of" : "behind"))
        .figure = ahead;
  }

  void judge_machine(const NodeFacts& node, const MachineFacts& machine) {
    judge_disk(machine);
    const std::int64_t needed = needs_.rank_bytes * node.ranks;
    if (needed > machine.memory_bytes) {
      add(Severity::kBad, "memory",
          fmt::format("{} ranks need {} of memory, and there are {}",
                      node.ranks, bytes_text(needed),
                      bytes_text(machine.memory_bytes)),
          kExitDoesNotFit);
    } else if (needed > machine.free_memory_bytes) {
      add(Severity::kNoted, "memory",
          fmt::format("{} ranks need {} of memory, and {} of {} are free",
                      node.ranks, bytes_text(needed),
                      bytes_text(machine.free_memory_bytes),
                      bytes_text(machine.memory_bytes)));
    }
    if (machine.cores < node.ranks) {
      add(Severity::kNoted, "cores",
          fmt::format("{} ranks share {} cores", node.ranks, machine.cores));
    }
  }

  void judge_disk(const MachineFacts& machine) {
    if (!machine.disk_error.empty()) {
      add(Severity::kBad, "disk", machine.disk_error, kExitStorage);
    } else if (needs_.disk_bytes > machine.free_disk_bytes) {
      add(Severity::kBad, "disk",
          fmt::format("{} are free in the run's folder, and checkpoints take "
                      "{}: make room, or lower checkpoint.keep_last",
                      bytes_text(machine.free_disk_bytes),
                      bytes_text(needs_.disk_bytes)),
          kExitStorage);
    }
  }

  /// Names who is far slower than the others. `text` says a value.
  template <class Value, class Text>
  void compare(Severity severity, const char* probe, double part, Value value,
               Text text) {
    std::vector<double> values;
    std::vector<std::size_t> of;
    for (std::size_t i = 0; i < nodes_.size(); ++i) {
      const std::optional<double> each = value(nodes_[i]);
      if (!each) continue;
      values.push_back(*each);
      of.push_back(i);
    }
    for (std::size_t i = 0; i < values.size(); ++i) {
      const std::optional<double> middle = lags(values, i, part);
      if (!middle) continue;
      node_ = of[i];
      Finding& finding =
          add(severity, probe,
              fmt::format("{}, and the median of the others is {}",
                          text(values[i]), text(*middle)));
      finding.figure = values[i];
      finding.median = middle;
    }
  }

  void judge_speeds() {
    compare(
        Severity::kSlow, "compute",
        nodes_.size() < kFew ? kComputePartOfFew : kComputePart,
        [](const NodeFacts& node) { return node.flops; },
        [](double flops) { return flops_text(flops); });
    compare(
        Severity::kNoted, "write", kWritePart,
        [](const NodeFacts& node) -> std::optional<double> {
          const auto& machine = node.machine;
          if (!machine || machine->write_seconds <= 0 ||
              !machine->disk_error.empty()) {
            return std::nullopt;
          }
          return static_cast<double>(kWrittenBytes) / (1 << 20) /
                 machine->write_seconds;
        },
        [](double speed) {
          return fmt::format("{:.3g} MiB/s to the disk", speed);
        });
  }

  void judge_links() {
    compare(
        Severity::kSlow, "bandwidth", kBandwidthPart,
        [this](const NodeFacts& node) -> std::optional<double> {
          const auto best = best_links(links_, number_of(node));
          return best ? std::optional(best->bytes_per_second) : std::nullopt;
        },
        [](double speed) { return speed_text(speed) + " to others"; });
    compare(
        Severity::kNoted, "latency", kLatencyPart,
        [this](const NodeFacts& node) -> std::optional<double> {
          const auto best = best_links(links_, number_of(node));
          return best ? std::optional(1 / std::max(best->latency_seconds,
                                                   kShortestSeconds))
                      : std::nullopt;
        },
        [](double rate) {
          return seconds_text(1 / rate) + " to others and back";
        });
    judge_failed_links();
  }

  void judge_failed_links() {
    std::set<int> blamed;
    for (;;) {
      std::map<int, int> count;
      for (const LinkFound& link : links_) {
        if (link.failed.empty() || blamed.contains(link.from) ||
            blamed.contains(link.to)) {
          continue;
        }
        ++count[link.from];
        ++count[link.to];
      }
      int worst = -1, most = 0;
      for (const auto& [number, failed] : count) {
        // Of two alike the later one: the first has rank 0.
        if (failed >= most) {
          worst = number;
          most = failed;
        }
      }
      if (worst < 0) return;
      blamed.insert(worst);
      blame(worst);
    }
  }

  void blame(int number) {
    const LinkFound* at = nullptr;
    for (const LinkFound& link : links_) {
      if (link.failed.empty() || (link.from != number && link.to != number)) {
        continue;
      }
      if (at == nullptr || (at->late && !link.late)) at = &link;
    }
    node_ = static_cast<std::size_t>(number);
    add_missing("link", at->late,
                fmt::format("from {} ({}) to {} ({}) {}: {}", at->from,
                            host(at->from), at->to, host(at->to),
                            at->late ? "it is not known how good the way is"
                                     : "there is no way",
                            at->failed));
  }

  [[nodiscard]] int number_of(const NodeFacts& node) const {
    return static_cast<int>(&node - nodes_.data());
  }
  [[nodiscard]] const std::string& host(int node) const {
    return nodes_.at(static_cast<std::size_t>(node)).host;
  }

  /// The hash of most, or of the first who has one that as many have.
  template <class Hash>
  std::uint64_t usual(Hash hash) {
    std::vector<std::uint64_t> votes;
    if (here_ != nullptr) votes.push_back(hash(*here_));
    for (const NodeFacts& node : nodes_) {
      if (node.machine) votes.push_back(hash(*node.machine));
    }
    std::map<std::uint64_t, int> count;
    for (const std::uint64_t vote : votes) ++count[vote];
    std::uint64_t best = 0;
    for (const std::uint64_t vote : votes) {
      if (vote != 0 && (best == 0 || count[vote] > count[best])) best = vote;
    }
    return best;
  }

  template <class Hash>
  void judge_file(const char* probe, const std::string& path, int code,
                  Hash hash) {
    const std::uint64_t expected = usual(hash);
    for (node_ = 0; node_ < nodes_.size(); ++node_) {
      if (!nodes_[node_].machine) continue;
      const std::uint64_t found = hash(*nodes_[node_].machine);
      if (found == expected) continue;
      add(Severity::kBad, probe,
          found == 0
              ? fmt::format("{} cannot be read there", path)
              : fmt::format("{} is another file than elsewhere ({:016x}, not "
                            "{:016x}): copy it there, or use a shared folder",
                            path, found, expected),
          code);
    }
  }

  void judge_files() {
    judge_file("program", needs_.program, kExitNotExecutable,
               [](const MachineFacts& m) { return m.program_hash; });
    for (std::size_t i = 0; i < needs_.files.size(); ++i) {
      judge_file("data", needs_.files[i], kExitConfig,
                 [i](const MachineFacts& m) {
                   return i < m.file_hashes.size() ? m.file_hashes[i] : 0;
                 });
    }
  }

  const std::vector<NodeFacts>& nodes_;
  const std::vector<LinkFound>& links_;
  const JobNeeds& needs_;
  const MachineFacts* here_;
  std::size_t node_ = 0;
  std::vector<Finding> findings_;
};

}  // namespace

const char* name_of(Severity severity) {
  switch (severity) {
    case Severity::kNoted:
      return "noted";
    case Severity::kSlow:
      return "slow";
    case Severity::kBad:
      return "bad";
  }
  return "";
}

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const std::size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half]
                                : (values[half - 1] + values[half]) / 2;
}

std::optional<double> lags(std::span<const double> values, std::size_t at,
                           double part) {
  std::vector<double> others(values.begin(), values.end());
  others.erase(others.begin() + static_cast<std::ptrdiff_t>(at));
  if (others.empty()) return std::nullopt;
  const double middle = median(others);
  for (double& other : others) other = std::abs(other - middle);
  const bool far = values[at] < part * middle &&
                   middle - values[at] > kDeviations * kRobust * median(others);
  return far ? std::optional(middle) : std::nullopt;
}

std::optional<LinkFacts> best_links(const std::vector<LinkFound>& links,
                                    int node) {
  std::optional<LinkFacts> best;
  for (const LinkFound& link : links) {
    if (!link.failed.empty() || (link.from != node && link.to != node))
      continue;
    if (!best) best = link.facts;
    best->latency_seconds =
        std::min(best->latency_seconds, link.facts.latency_seconds);
    best->bytes_per_second =
        std::max(best->bytes_per_second, link.facts.bytes_per_second);
  }
  return best;
}

std::vector<Finding> judge(const std::vector<NodeFacts>& nodes,
                           const std::vector<LinkFound>& links,
                           const JobNeeds& needs, const MachineFacts* here) {
  return Judge(nodes, links, needs, here).run();
}

}  // namespace catena::launcher
