#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "launcher/commands/look.h"
#include "launcher/commands/parse.h"
#include "launcher/contract.h"
#include "launcher/run_status.h"
#include "launcher/terminal.h"
#include "launcher/watch_frame.h"

namespace catena::launcher {
namespace {

namespace fs = std::filesystem;

constexpr int kPlainColumns = 100;
constexpr std::size_t kMostEvents = 16, kDateLength = 11;
constexpr double kHourSeconds = 3600;

/// What the launcher said, and what happened at steps.
class Events {
 public:
  explicit Events(const fs::path& run)
      : launcher_(run / "launcher.log"), trainer_(run / "log.txt") {}

  [[nodiscard]] std::vector<std::string> read(const RunStatus& status,
                                              const MetricsTail* metrics) {
    for (std::string& line : (status.launched ? launcher_ : trainer_).lines()) {
      // The day is known; of several lines at one time the first says most.
      const bool dated =
          line.size() > kDateLength && line[kDateLength - 1] == 'T';
      if (dated) said_.push_back(line.substr(kDateLength));
      if (said_.size() > kMostEvents) said_.erase(said_.begin());
    }
    std::vector<std::string> all = said_;
    if (metrics != nullptr && !metrics->events().empty()) {
      all.push_back(metrics->events().back());
    }
    return all;
  }

 private:
  GrowingFile launcher_, trainer_;
  std::vector<std::string> said_;
};

class Watch {
 public:
  explicit Watch(const fs::path& run) : reader_(run), events_(run) {}

  [[nodiscard]] WatchView view() {
    WatchView view{.status = reader_.read()};
    const MetricsTail* metrics = reader_.metrics();
    if (metrics != nullptr) view.losses = metrics->losses();
    view.events = events_.read(view.status, metrics);
    return view;
  }

 private:
  StatusReader reader_;
  Events events_;
};

int plain(Watch& watch) {
  for (const std::string& line :
       watch_frame(watch.view(), kPlainColumns, 0, false)) {
    std::puts(line.c_str());
  }
  return kExitSuccess;
}

int on_screen(Watch& watch, double every) {
  const bool color = draws_colors();
  const std::chrono::duration<double> wait(every);
  Screen screen;
  do {
    const TerminalSize size = screen.size();
    screen.draw(watch_frame(watch.view(), size.columns, size.rows, color));
  } while (!screen.wait(
      std::chrono::duration_cast<std::chrono::milliseconds>(wait)));
  return kExitSuccess;
}

}  // namespace

int watch(const std::vector<std::string>& arguments) {
  CLI::App app(
      "Draws how a run stands, again and again: ranks, step, speed, the loss, "
      "events. \"q\" quits; without a terminal it is drawn once.",
      "catena watch");
  std::string run;
  double every = 1;
  add_run(app, run);
  app.add_option("--every", every, "Seconds from one picture to the next")
      ->check(CLI::Range(0.1, kHourSeconds))
      ->capture_default_str();
  if (const auto code = parse_command(app, arguments)) return *code;
  Watch watch(find_run(run));
  return can_draw() ? on_screen(watch, every) : plain(watch);
}

}  // namespace catena::launcher
