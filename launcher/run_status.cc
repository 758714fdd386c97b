#include "launcher/run_status.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <chrono>
#include <nlohmann/json.hpp>

#include "launcher/run_files.h"
#include "runtime/base/error.h"
#include "runtime/base/files.h"

namespace catena::launcher {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr int kMostRanks = 1 << 16;
constexpr const char* kLost = "LOST";

/// null where there is none, or none yet.
Json read_json(const fs::path& path) {
  try {
    Json json = Json::parse(read_file(path), nullptr, false);
    return json.is_object() ? json : Json();
  } catch (const Error&) {
    return {};
  }
}

template <class T>
std::optional<T> get(const Json& json, const char* name) {
  const auto at = json.find(name);
  if (at == json.end()) return std::nullopt;
  if constexpr (std::is_same_v<T, std::string>) {
    if (!at->is_string()) return std::nullopt;
  } else if (!at->is_number()) {
    return std::nullopt;
  }
  return at->get<T>();
}

bool is_run(const fs::path& folder) {
  std::error_code none;
  return fs::exists(folder / "job.json", none) ||
         fs::exists(folder / "config.toml", none);
}

fs::file_time_type last_written(const fs::path& run) {
  auto newest = fs::file_time_type::min();
  for (const char* name :
       {"job.json", "config.toml", "metrics.jsonl", "log.txt"}) {
    std::error_code code;
    const auto time = fs::last_write_time(run / name, code);
    if (!code) newest = std::max(newest, time);
  }
  return newest;
}

fs::path newest_run() {
  fs::path newest;
  auto time = fs::file_time_type::min();
  std::error_code failed;
  for (fs::directory_iterator entry("runs", failed), end;
       !failed && entry != end; entry.increment(failed)) {
    if (!is_run(entry->path())) continue;
    const auto written = last_written(entry->path());
    if (newest.empty() || written > time) {
      newest = entry->path();
      time = written;
    }
  }
  if (newest.empty()) {
    fail(ErrorKind::kUsage,
         "there is no run under runs/ here; name its folder: "
         "\"catena status RUN\"");
  }
  return newest;
}

std::string own_host() {
  std::array<char, 256> name{};
  ::gethostname(name.data(), name.size() - 1);
  return name.data();
}

/// Of ranks that have not ended, from the job's own.
std::string rank_state(const RunStatus& status) {
  if (status.ended) return "ended";
  const std::string& job = status.state;
  if (job == "RUNNING") return "running";
  if (job == "RENDEZVOUS") return "starting";
  if (job == "SAVING") return "saving";
  if (job == kLost) return "unknown";
  return job == "STOPPING" ? "stopping" : "waiting";
}

void note_failure(RunStatus& status, const Json& cause) {
  const std::string text = get<std::string>(cause, "text").value_or("");
  const int rank = get<int>(cause, "rank").value_or(-1);
  status.last_error = rank < 0 ? text : fmt::format("rank {} {}", rank, text);
  if (rank >= 0 && rank < static_cast<int>(status.ranks.size())) {
    status.ranks[static_cast<std::size_t>(rank)].last_error = text;
  }
}

void add_ranks(RunStatus& status, int count) {
  for (int rank = 0; rank < std::clamp(count, 1, kMostRanks); ++rank) {
    status.ranks.push_back({.rank = rank, .state = rank_state(status)});
  }
}

}  // namespace

fs::path find_run(const std::string& given) {
  if (given.empty()) return newest_run();
  if (is_run(given)) return given;
  fail(ErrorKind::kUsage,
       "{}: no run; neither job.json nor config.toml is in that folder", given);
}

fs::path rank_folder(const fs::path& run, int rank) {
  return rank == 0 ? run : run / "ranks" / fmt::format("{}", rank);
}

std::optional<LockHolder> process_of(const fs::path& run) {
  // The launcher's ranks hold the other one.
  std::optional<LockHolder> launcher = LockHolder::find(run / "launcher.lock");
  return launcher ? std::move(launcher) : LockHolder::find(run / "lock");
}

void StatusReader::read_job(RunStatus& status) const {
  const Json json = read_json(run_ / "job.json");
  status.launched = json.is_object();
  if (!status.launched) return;
  status.job = get<std::string>(json, "job").value_or("");
  status.host = get<std::string>(json, "host").value_or("");
  status.state = get<std::string>(json, "state").value_or("");
  status.generation = get<int>(json, "generation").value_or(0);
  status.exit_code = get<int>(json, "exit_code");
  status.checkpoint_step = get<std::int64_t>(json, "checkpoint_step");
  status.seconds = get<double>(json, "seconds");
  status.ended = status.exit_code.has_value();
  add_ranks(status, get<int>(json, "ranks").value_or(1));
  const auto restarts = json.find("restarts");
  if (restarts != json.end() && restarts->is_array()) {
    status.restarts = static_cast<int>(restarts->size());
    for (const Json& cause : *restarts) {
      note_failure(status, cause);
      const int rank = get<int>(cause, "rank").value_or(-1);
      if (rank < 0 || rank >= static_cast<int>(status.ranks.size())) continue;
      ++status.ranks[static_cast<std::size_t>(rank)].restarts;
    }
  }
  const auto failure = json.find("first_failure");
  if (failure != json.end() && failure->is_object()) {
    note_failure(status, *failure);
  }
}

void StatusReader::read_result(RunStatus& status) const {
  const Json json = read_json(run_ / "result.json");
  status.state = status.process ? "RUNNING" : kLost;
  if (json.is_object() && !status.process) {
    status.ended = true;
    status.state = get<std::string>(json, "state").value_or(kLost);
    for (char& c : status.state) {
      c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    }
    status.seconds = get<double>(json, "seconds");
    status.last_error = get<std::string>(json, "error").value_or("");
  }
  int ranks = 1;
  std::error_code none;
  while (fs::is_directory(rank_folder(run_, ranks), none)) ++ranks;
  add_ranks(status, ranks);
}

void StatusReader::read_ranks(RunStatus& status) {
  using Clock = fs::file_time_type::clock;
  for (RankStatus& rank : status.ranks) {
    const fs::path file = rank_folder(run_, rank.rank) / "metrics.jsonl";
    MetricsTail& tail = metrics_.try_emplace(rank.rank, file).first->second;
    tail.update();
    rank.newest = tail.newest();
    std::error_code code;
    const auto written = fs::last_write_time(file, code);
    if (code) continue;
    const std::chrono::duration<double> silent = Clock::now() - written;
    rank.silent_seconds = std::max(0.0, silent.count());
  }
}

RunStatus StatusReader::read() {
  RunStatus status{.run = run_};
  // First whether it is there: it writes how it ended, and goes then.
  if (const auto holder = process_of(run_)) status.process = holder->process();
  read_job(status);
  if (!status.launched) {
    read_result(status);
  } else if (!status.ended && !status.process && status.host == own_host()) {
    status.state = kLost;
    status.ended = true;
    for (RankStatus& rank : status.ranks) rank.state = "ended";
  }
  if (!status.ended || !status.checkpoint_step) {
    status.checkpoint_step = newest_checkpoint_step(run_);
  }
  read_ranks(status);
  return status;
}

const MetricsTail* StatusReader::metrics() const {
  const auto at = metrics_.find(0);
  return at == metrics_.end() ? nullptr : &at->second;
}

}  // namespace catena::launcher
