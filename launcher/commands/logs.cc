#include <algorithm>
#include <chrono>
#include <cstdio>
#include <thread>

#include "launcher/commands/look.h"
#include "launcher/commands/parse.h"
#include "launcher/contract.h"
#include "launcher/log_merge.h"
#include "launcher/run_status.h"
#include "runtime/base/error.h"

namespace catena::launcher {
namespace {

constexpr int kMostRank = 65535;
constexpr std::chrono::milliseconds kBetweenLooks(200);
constexpr std::size_t kPrefixWidth = 5;

struct Options {
  std::string run;
  std::vector<int> ranks;
  long long tail = -1;
  bool follow = false;
};

void keep_last(std::vector<RankLines>& ranks, long long most) {
  if (most < 0) return;
  for (RankLines& rank : ranks) {
    const auto extra = static_cast<long long>(rank.lines.size()) - most;
    if (extra > 0) {
      rank.lines.erase(rank.lines.begin(), rank.lines.begin() + extra);
    }
  }
}

/// Returns: whether it could be written; a pipe may have been closed.
bool print(const std::vector<RankLines>& ranks) {
  const std::string text = merge_lines(ranks, kPrefixWidth);
  std::fwrite(text.data(), 1, text.size(), stdout);
  return std::fflush(stdout) == 0;
}

void follow(const Options& options, RunLogs& logs) {
  StatusReader reader(find_run(options.run));
  for (;;) {
    // What comes after the end was seen is not missed.
    const bool ended = reader.read().ended;
    if (!print(logs.read()) || ended) return;
    std::this_thread::sleep_for(kBetweenLooks);
  }
}

}  // namespace

int logs(const std::vector<std::string>& arguments) {
  CLI::App app(
      "Shows what the ranks of a run wrote, each line behind its rank; lines "
      "that several ranks wrote are shown once.",
      "catena logs");
  Options options;
  add_run(app, options.run);
  app.add_option("--rank", options.ranks, "This rank alone; repeatable")
      ->check(CLI::Range(0, kMostRank))
      ->allow_extra_args(false);
  app.add_option("--tail", options.tail, "The last lines of each rank")
      ->check(CLI::Range(0LL, 1000000000LL));
  app.add_flag("-f,--follow", options.follow,
               "Go on as they grow, until the run ends");
  if (const auto code = parse_command(app, arguments)) return *code;
  options.run = find_run(options.run).string();
  std::sort(options.ranks.begin(), options.ranks.end());
  RunLogs logs(options.run, options.ranks);
  std::vector<RankLines> lines = logs.read();
  if (!logs.any() && !options.follow) {
    fail(ErrorKind::kUsage, "{}: no log of {} is there yet", options.run,
         options.ranks.empty() ? "any rank"
                               : "rank " + ranks_text(options.ranks));
  }
  keep_last(lines, options.tail);
  if (print(lines) && options.follow) follow(options, logs);
  return kExitSuccess;
}

}  // namespace catena::launcher
