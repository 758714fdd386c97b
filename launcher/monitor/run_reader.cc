#include "launcher/monitor/run_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "launcher/monitor/run_settings.h"
#include "launcher/run_files.h"
#include "runtime/base/error.h"
#include "runtime/base/files.h"

namespace catena::launcher {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
using Json = nlohmann::json;

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
constexpr std::uintmax_t kMostSmallFile = 4 << 20;
constexpr double kBusyShare = 0.2;  ///< of the newest step in a rank's mean

double finite(double value) { return std::isfinite(value) ? value : 0; }

/// "": it is not there, too large, or cannot be read now.
std::string small_file(const fs::path& path) {
  std::error_code none;
  const auto size = fs::file_size(path, none);
  if (none || size > kMostSmallFile) return {};
  try {
    return read_file(path);
  } catch (const Error&) {
    return {};
  }
}

/// Folders of more may be left of an earlier generation, or job.
std::size_t most_ranks(const Json& job) {
  const auto ranks = job.is_object() ? job.find("ranks") : job.end();
  if (ranks == job.end() || !ranks->is_number_integer()) {
    return RunReader::kMostRanks;
  }
  return static_cast<std::size_t>(
      std::clamp<std::int64_t>(*ranks, 1, RunReader::kMostRanks));
}

double modified(const fs::path& path) {
  std::error_code none;
  const auto time = fs::last_write_time(path, none);
  if (none) return 0;
  const auto system = std::chrono::file_clock::to_sys(time);
  return std::chrono::duration<double>(system.time_since_epoch()).count();
}

/// NaN where there is none.
template <class Fold>
double fold(const LayerValues& layers, double first, const Fold& by) {
  double result = first;
  bool any = false;
  for (const auto& layer : layers) {
    for (const double value : layer) {
      if (!std::isfinite(value)) continue;
      result = by(result, value);
      any = true;
    }
  }
  return any ? result : kNone;
}

double most(const LayerValues& layers) {
  return fold(layers, 0, [](double a, double b) { return std::max(a, b); });
}

double total(const LayerValues& layers) {
  return fold(layers, 0, [](double a, double b) { return a + b; });
}

double mean(const LayerValues& layers) {
  return total(layers) /
         fold(layers, 0, [](double count, double) { return count + 1; });
}

}  // namespace

RunReader::RunReader(fs::path run)
    : run_(std::move(run)),
      routing_(run_ / "routing.jsonl"),
      journal_(run_ / "journal.jsonl") {
  fs::path named = run_.filename().empty() ? run_.parent_path() : run_;
  view_.name = named.filename().string();
  read_settings();
}

void RunReader::read_settings() {
  const RunSettings settings = settings_of(run_ / "config.toml");
  view_.steps = settings.steps;
  view_.checkpoint_every = settings.checkpoint_every;
}

void RunReader::find_ranks() {
  const auto add = [this](const fs::path& folder) {
    view_.ranks.emplace_back(static_cast<int>(files_.size()));
    files_.emplace_back(folder / "metrics.jsonl");
    ++view_.version;
  };
  if (files_.empty()) add(run_);
  const std::size_t most = most_ranks(view_.job);
  while (files_.size() > most) {
    files_.pop_back();
    view_.ranks.pop_back();
    ++view_.version;
  }
  std::error_code none;
  while (files_.size() < most) {
    const fs::path next = run_ / "ranks" / fmt::format("{}", files_.size());
    if (!fs::is_directory(next, none)) break;
    add(next);
  }
}

void RunReader::read_small_files() {
  const auto read = [this](const char* name, Json& json) {
    std::string text = small_file(run_ / name);
    std::string& before = small_files_[name];
    if (text == before) return;
    before = std::move(text);
    json = Json::parse(before, nullptr, false);
    if (json.is_discarded()) json = nullptr;
    ++view_.version;
  };
  read("job.json", view_.job);
  read("result.json", view_.result);
  view_.job_modified = modified(run_ / "job.json");
  if (view_.steps == 0) read_settings();
  const std::int64_t step = newest_checkpoint_step(run_);
  if (step == view_.checkpoint_step) return;
  view_.checkpoint_step = step;
  view_.checkpoint_time = modified(
      run_ / "checkpoints" / fmt::format("step-{:06}", step) / "MANIFEST.json");
  ++view_.version;
}

void RunReader::refresh(std::chrono::milliseconds patience) {
  const auto until = Clock::now() + patience;
  read_small_files();
  find_ranks();
  // Every file in turn, so that a long one holds up no other.
  bool more = true;
  while (more) {
    more = read_routing();
    more = read_journal() || more;
    for (std::size_t count = 0; count < files_.size(); ++count) {
      next_ = next_ < files_.size() ? next_ : 0;
      more = read_rank(next_++) || more;
      if (Clock::now() < until) continue;
      more = false;
      break;
    }
  }
  view_.bytes = static_cast<double>(routing_.size() + journal_.size());
  view_.bytes_read =
      static_cast<double>(routing_.read_so_far() + journal_.read_so_far());
  for (std::size_t rank = 0; rank < files_.size(); ++rank) {
    view_.bytes += static_cast<double>(files_[rank].lines.size());
    view_.bytes_read += static_cast<double>(files_[rank].lines.read_so_far());
    view_.ranks[rank].modified = files_[rank].lines.modified();
  }
}

bool RunReader::read_rank(std::size_t rank) {
  return files_[rank].lines.read(
      {.anew = [this, rank] { forget_rank(rank); },
       .line = [this,
                rank](std::string_view line) { take_metrics(rank, line); }});
}

void RunReader::forget_rank(std::size_t rank) {
  files_[rank].step = 0;
  view_.ranks[rank] = RankView(static_cast<int>(rank));
  ++view_.version;
  if (rank != 0) return;
  RunView fresh;
  view_.series.clear();
  view_.validation.clear();
  view_.validation_loss = kNone;
  view_.events.clear();
  view_.checkpoint_stall = std::move(fresh.checkpoint_stall);
  view_.checkpoint_write = std::move(fresh.checkpoint_write);
  view_.checkpoint_bytes = 0;
  view_.checkpoint_failures = view_.skipped = 0;
}

void RunReader::take_metrics(std::size_t rank, std::string_view line) {
  const auto record = parse_metrics(line);
  if (!record) return;
  ++view_.version;
  switch (record->kind) {
    case MetricsRecord::Kind::kStep:
      take_step(rank, *record);
      break;
    case MetricsRecord::Kind::kValidation:
      if (rank != 0) break;
      view_.validation.add(record->step, {&record->validation_loss, 1});
      view_.validation_loss = record->validation_loss;
      break;
    case MetricsRecord::Kind::kEvent:
      if (rank == 0) take_event(*record);
      break;
  }
}

void RunReader::take_step(std::size_t rank, const MetricsRecord& record) {
  RankView& view = view_.ranks[rank];
  // A step that was rewound is taken again.
  const auto stands_for = static_cast<double>(
      std::max<std::int64_t>(1, record.step - files_[rank].step));
  files_[rank].step = view.step = record.step;
  view.seconds = finite(record.seconds);
  view.exposed = 0;
  for (std::size_t i = 0; i < kExchangePhases.size(); ++i) {
    const MetricsRecord::Phase& phase = record.phases[i];
    view.exposed += phase.exposed;
    view.phases[i].exposed += stands_for * phase.exposed;
    view.phases[i].overlapped += stands_for * phase.overlapped;
    view.phases[i].bytes += stands_for * phase.bytes;
    view.phases[i].across_bytes += stands_for * phase.across_bytes;
  }
  const double busy = std::max(0.0, view.seconds - view.exposed);
  view.busy =
      view.busy == 0 ? busy : view.busy + kBusyShare * (busy - view.busy);
  view.memory_bytes = finite(record.memory_bytes);
  view.memory_peak_bytes = finite(record.memory_peak_bytes);
  view.flops += stands_for * finite(record.flops);
  view.step_seconds += stands_for * view.seconds;
  view.durations.add(view.seconds);
  if (rank == 0) take_row(record);
}

void RunReader::take_row(const MetricsRecord& record) {
  double overlapped = 0;
  for (const auto& phase : record.phases) overlapped += phase.overlapped;
  const bool ranks = record.several_ranks;
  std::vector<double> row = {record.loss,
                             record.gradient_norm,
                             record.learning_rate,
                             record.tokens_per_second,
                             record.mfu,
                             record.seconds,
                             record.memory_bytes,
                             most(record.expert_load),
                             most(record.rank_load),
                             mean(record.router_entropy),
                             total(record.experts_idle),
                             ranks ? overlapped : kNone,
                             ranks ? view_.ranks[0].exposed : kNone};
  for (const auto& phase : record.phases) {
    row.push_back(ranks ? phase.exposed : kNone);
  }
  view_.series.add(record.step, row);
  view_.last = record;
}

void RunReader::take_event(const MetricsRecord& record) {
  view_.events.push_back({record.step, record.event, record.reason});
  if (view_.events.size() > RunView::kMostEvents) view_.events.pop_front();
  if (record.event == "checkpoint") {
    view_.checkpoint_stall.add(finite(record.checkpoint_stall));
    view_.checkpoint_write.add(finite(record.checkpoint_write));
    view_.checkpoint_bytes += finite(record.checkpoint_bytes);
  } else if (record.event == "checkpoint_failed") {
    ++view_.checkpoint_failures;
  } else if (record.event == "step_skipped") {
    ++view_.skipped;
  }
}

bool RunReader::read_journal() {
  return journal_.read({.anew =
                            [this] {
                              view_.recoveries = Recoveries();
                              ++view_.version;
                            },
                        .line =
                            [this](std::string_view line) {
                              view_.recoveries.take(line);
                              ++view_.version;
                            }});
}

bool RunReader::read_routing() {
  return routing_.read(
      {.anew =
           [this] {
             view_.routing.clear();
             view_.transitions.clear();
             routing_stride_ = 1;
             routing_seen_ = 0;
             ++view_.version;
           },
       .line = [this](std::string_view line) { take_routing(line); }});
}

// The lines of one step follow each other. Of the snapshots that are whole,
// every routing_stride_-th stays; the newest is always there.
void RunReader::take_routing(std::string_view line) {
  const auto record = parse_routing(line);
  if (!record) return;
  ++view_.version;
  std::deque<RoutingSnapshot>& all = view_.routing;
  if (all.empty() || all.back().step != record->step) {
    if (!all.empty() && (routing_seen_ - 1) % routing_stride_ != 0) {
      all.pop_back();
    }
    if (all.size() == RunView::kMostSnapshots) {
      for (std::size_t i = 1; i < all.size() / 2; ++i) {
        all[i] = std::move(all[2 * i]);
      }
      all.resize(all.size() / 2);
      routing_stride_ *= 2;
    }
    all.push_back({record->step});
    ++routing_seen_;
    view_.transitions.clear();
  }
  const auto place = [&record](auto& layers, std::vector<double> values) {
    const auto layer = static_cast<std::size_t>(record->layer);
    const auto iteration = static_cast<std::size_t>(record->iteration);
    if (layers.size() <= layer) layers.resize(layer + 1);
    if (layers[layer].size() <= iteration) layers[layer].resize(iteration + 1);
    layers[layer][iteration] = std::move(values);
  };
  place(all.back().load, record->load);
  if (!record->transitions.empty()) {
    place(view_.transitions, record->transitions);
  }
}

}  // namespace catena::launcher
