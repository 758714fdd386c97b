#include <fmt/format.h>

#include <chrono>
#include <csignal>
#include <thread>

#include "launcher/commands/look.h"
#include "launcher/commands/parse.h"
#include "launcher/contract.h"
#include "launcher/run_status.h"
#include "runtime/base/log.h"

namespace catena::launcher {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kNotStopped = 1;
constexpr double kYearSeconds = 365 * 24 * 3600.0;
constexpr std::chrono::milliseconds kBetweenSignals(50), kBetweenLooks(200);

struct Options {
  std::string run;
  bool now = false;
  double timeout = 120;
};

int nobody_here(const RunStatus& status) {
  if (status.ended && status.state != "LOST") {
    log::info("{} has ended already: {}", status.run.string(),
              headline(status));
    return kExitSuccess;
  }
  if (status.launched && !status.ended) {
    log::error(
        "{} runs on {}, where no process can be reached from here; run there: "
        "catena stop {}",
        status.run.string(), status.host, status.run.string());
  } else {
    log::error(
        "nobody on this machine is at work on {}, and it is not written how it "
        "ended; if it runs on another machine, stop it there",
        status.run.string());
  }
  return kNotStopped;
}

void ask(const LockHolder& holder, bool now) {
  holder.signal(SIGINT);
  if (!now) return;
  // Another signal: two of one kind may be met as one.
  if (!holder.wait(kBetweenSignals)) holder.signal(SIGTERM);
}

/// Says how it goes: on a terminal in place, elsewhere when the state changes.
class Progress {
 public:
  void show(const RunStatus& status, double waited, double most) {
    const bool terminal = log::terminal();
    if (!terminal && status.state == shown_) return;
    shown_ = status.state;
    log::progress(fmt::format("waiting for the end: {}; {:.0f} s of {:.0f} s",
                              status.state, waited, most));
  }

 private:
  std::string shown_;
};

int wait_for_end(const Options& options, const LockHolder& holder,
                 StatusReader& reader) {
  const auto begin = Clock::now();
  Progress progress;
  for (;;) {
    if (holder.wait(kBetweenLooks)) break;
    const std::chrono::duration<double> waited = Clock::now() - begin;
    if (waited.count() > options.timeout) {
      log::progress("");
      log::error(
          "process {} has not ended after {:.3g} s (--timeout); it was asked "
          "to, and \"catena stop --now\" ends it at once",
          holder.process(), options.timeout);
      return kNotStopped;
    }
    progress.show(reader.read(), waited.count(), options.timeout);
  }
  log::progress("");
  const RunStatus status = reader.read();
  const std::string kept = status.checkpoint_step.value_or(0) > 0
                               ? fmt::format("; --resume goes on from step {}",
                                             *status.checkpoint_step)
                               : "; there is no checkpoint";
  log::info("{}: {}{}", status.run.string(), headline(status), kept);
  return kExitSuccess;
}

}  // namespace

int stop(const std::vector<std::string>& arguments) {
  CLI::App app(
      "Asks a run to save and end, as Ctrl-C to its launcher does, and waits.",
      "catena stop");
  Options options;
  add_run(app, options.run);
  app.add_flag("--now", options.now, "End at once, without a checkpoint");
  app.add_option("--timeout", options.timeout,
                 "Seconds to wait for the end; the run is not asked again")
      ->check(CLI::Range(0.0, kYearSeconds))
      ->capture_default_str();
  if (const auto code = parse_command(app, arguments)) return *code;
  StatusReader reader(find_run(options.run));
  const RunStatus before = reader.read();
  const auto holder = process_of(before.run);
  if (!holder) return nobody_here(before);
  log::info("process {} is asked to {}", holder->process(),
            options.now ? "end at once" : "save and end");
  ask(*holder, options.now);
  return wait_for_end(options, *holder, reader);
}

}  // namespace catena::launcher
