#include "launcher/local_job.h"

#include <fmt/format.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/signal_set.hpp>
#include <csignal>
#include <numeric>
#include <optional>

#include "launcher/coordinator.h"
#include "launcher/local_agent.h"
#include "launcher/monitor/monitor.h"
#include "runtime/base/error.h"
#include "runtime/base/files.h"
#include "runtime/base/log.h"

namespace catena::launcher {
namespace {

namespace asio = boost::asio;
using Clock = std::chrono::steady_clock;

JobOptions job_options(const JobPlan& plan, const LaunchRequest& request) {
  std::vector<int> ranks(static_cast<std::size_t>(plan.ranks));
  std::iota(ranks.begin(), ranks.end(), 0);
  return {.ranks = {ranks},
          .policy = {.most_restarts = request.max_restarts},
          .start_timeout = request.start_timeout,
          .grace = request.grace};
}

class LocalJob {
 public:
  LocalJob(const JobPlan& plan, const LaunchRequest& request)
      : plan_(plan),
        coordinator_(
            context_, job_options(plan, request),
            {.send = [this](int, const Command& command) { send(command); },
             .checkpoint_step =
                 [this] { return newest_checkpoint_step(plan_.run); },
             .changed = [this](const JobState& state) { write_down(state); }}),
        agent_(context_, 0,
               {.program = plan.program,
                .arguments = plan.arguments,
                .job = plan.job,
                .token = random_secret(),
                .run = plan.run,
                .grace = request.grace,
                .section_timeout = request.section_timeout},
               [this](const Report& report) { coordinator_.receive(report); }),
        signals_(context_, SIGINT, SIGTERM, SIGHUP) {
    for (const int more : {SIGQUIT, SIGUSR1, SIGUSR2}) signals_.add(more);
  }

  int run() {
    wait_for_signals();
    coordinator_.begin();
    agent_.start();
    context_.run();
    return coordinator_.state().exit_code;
  }

 private:
  void send(const Command& command) {
    asio::post(context_, [this, command] { agent_.receive(command); });
  }

  void wait_for_signals() {
    signals_.async_wait(
        [this](const boost::system::error_code& error, int signal) {
          if (error) return;
          heed(signal);
          wait_for_signals();
        });
  }

  void heed(int signal) {
    if (signal == SIGUSR1) {
      log::info("{}: ranks save and go on", strsignal(signal));
      return coordinator_.save();
    }
    if (signal == SIGUSR2) return coordinator_.inspect();
    log::info("{}: {}", strsignal(signal),
              coordinator_.state().stop_signal == 0
                  ? "ranks save and end; again to end at once"
                  : "ending at once");
    coordinator_.stop(signal);
  }

  void write_down(const JobState& state) {
    const std::chrono::duration<double> seconds = Clock::now() - begin_;
    try {
      write_file_atomically(plan_.run / "job.json",
                            result_json(plan_, state, seconds.count()));
    } catch (const Error& error) {
      // The ranks have the same disk, and say more of it.
      log::warning("{}", error.what());
    }
    if (is_end(state.phase)) {
      log::info("{} after {} restarts, code {}; see {}", name_of(state.phase),
                state.policy.restarts, state.exit_code,
                (plan_.run / "job.json").string());
      context_.stop();
    }
  }

  const JobPlan& plan_;
  const Clock::time_point begin_ = Clock::now();
  asio::io_context context_;
  Coordinator coordinator_;
  LocalAgent agent_;
  asio::signal_set signals_;
};

}  // namespace

int run_local_job(const JobPlan& plan, const LaunchRequest& request) {
  const FileLock lock(plan.run / "launcher.lock");
  if (!lock.held()) {
    fail(ErrorKind::kUsage,
         "{}: another launcher is at work there; wait for it, or choose "
         "another folder with --set run.folder=...",
         plan.run.string());
  }
  log::open_file(plan.run / "launcher.log");
  log::info("{} ranks on {}, run in {}", plan.ranks, plan.host,
            plan.run.string());
  std::optional<Monitor> monitor;
  JobPlan shown = plan;
  if (request.dashboard) {
    monitor.emplace(plan.run,
                    static_cast<std::uint16_t>(request.dashboard_port));
    shown.dashboard = monitor->address();
    log::info("dashboard at {}", shown.dashboard);
  }
  return LocalJob(shown, request).run();
}

}  // namespace catena::launcher
