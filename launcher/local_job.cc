#include "launcher/local_job.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <csignal>
#include <map>
#include <memory>
#include <numeric>
#include <optional>

#include "launcher/agents.h"
#include "launcher/contract.h"
#include "launcher/coordinator.h"
#include "launcher/job_setup.h"
#include "launcher/journal.h"
#include "launcher/monitor/monitor.h"
#include "launcher/mpi_step.h"
#include "launcher/preflight/preflight.h"
#include "launcher/preflight/preflight_plan.h"
#include "runtime/base/error.h"
#include "runtime/base/files.h"
#include "runtime/base/log.h"

namespace catena::launcher {
namespace {

namespace asio = boost::asio;
using Clock = std::chrono::steady_clock;

std::unique_ptr<Agents> make_agents(asio::io_context& context,
                                    const JobPlan& plan,
                                    const LaunchRequest& request,
                                    Agents::Hooks hooks) {
  if (request.engine == Engine::kMpi) {
    return mpi_agents(context,
                      {.mpirun = find_mpirun(),
                       .layout = plan.layout,
                       .here = request.hosts.empty()},
                      rank_setup(plan, request), std::move(hooks));
  }
  if (!is_remote(request)) {
    return local_agents(context, rank_setup(plan, request), std::move(hooks));
  }
  return remote_agents(context, remote_options(plan, request),
                       rank_setup(plan, request), std::move(hooks));
}

/// What strangers do is no change of the job's, and is written down so often.
constexpr std::chrono::seconds kBetweenCounts(2);

/// The preflight, where one is wanted, and then the job on the machines that it
/// leaves. Agents have a number among all of them, which Agents and Preflight
/// say, and one among those of the job, which the coordinator says.
class Job {
 public:
  Job(const JobPlan& plan, const LaunchRequest& request)
      : plan_(plan),
        request_(request),
        journal_(plan.run / "journal.jsonl", plan.job),
        agents_(make_agents(
            context_, plan, request,
            {.reported = [this](const Report& report) { hear(report); },
             .gone = [this](int agent,
                            const std::string& why) { lose(agent, why); },
             .connected = [this](int agent) { preflight_->came(agent); },
             .probed =
                 [this](int agent, const Probed& probed) {
                   if (preflight_) preflight_->answered(agent, probed);
                 }})),
        signals_(context_, SIGINT, SIGTERM, SIGHUP),
        note_(context_),
        limit_(context_) {
    for (const int more : {SIGQUIT, SIGUSR1, SIGUSR2}) signals_.add(more);
  }

  int run() {
    wait_for_signals();
    if (may_look(request_)) {
      look();
    } else {
      begin(begin_);
    }
    // Alone, the launcher is the agent, who says that it is ready but once.
    if (!preflight_ || is_remote(request_)) agents_->start();
    context_.run();
    return exit_code_;
  }

 private:
  void look() {
    JobState waiting(job_options(plan_, request_));
    waiting.phase = JobPhase::kStarting;
    write_down(waiting);
    preflight_.emplace(
        context_, preflight_options(plan_, request_),
        Preflight::Hooks{
            .ask = [this](int agent,
                          const Probe& probe) { agents_->probe(agent, probe); },
            .done = [this](const PreflightState& state,
                           const MachineFacts* ours) { follow(state, ours); }});
    hold_time_limit();
    if (is_remote(request_)) return preflight_->begin();
    preflight_->begin_alone();
  }

  /// It holds for the preflight, too.
  void hold_time_limit() {
    if (request_.time_limit <= Duration()) return;
    limit_.expires_at(begin_ + request_.time_limit);
    limit_.async_wait([this](const boost::system::error_code& error) {
      if (!error && !coordinator_) begin(begin_);
    });
  }

  /// Does what follows from what was found.
  void follow(const PreflightState& found, const MachineFacts* ours) {
    if (coordinator_) return;
    const int all = static_cast<int>(all_hosts(plan_, request_).size());
    const Conclusion conclusion = conclude(plan_, request_, found, ours);
    const Chosen& chosen = conclusion.chosen;
    if (chosen.code != 0) return refuse(chosen.code, chosen.why);
    plan_ = conclusion.plan;
    members_ = chosen.nodes;
    for (int agent = 0; agent < all; ++agent) {
      if (number_of(agent) < 0) agents_->dismiss(agent);
    }
    begin(since_when(found));
    const std::vector<RankShare> shares = rank_shares(plan_.layout);
    std::map<int, RankShare> of_agents;
    for (std::size_t i = 0; i < shares.size(); ++i) {
      of_agents[members_.at(i)] = shares[i];
    }
    agents_->set_up(of_agents);
    if (!is_remote(request_)) agents_->start();
    for (const auto& [agent, why] : found.gone) lose(agent, why);
  }

  /// Who did not come was waited for already; those who did have yet to say
  /// that they are ready, for which they get a lease.
  [[nodiscard]] Clock::time_point since_when(
      const PreflightState& found) const {
    const auto now = Clock::now();
    const bool all_came =
        std::all_of(members_.begin(), members_.end(),
                    [&](int agent) { return found.there.contains(agent); });
    if (all_came) return now;
    return std::max(begin_,
                    std::min(now, now - request_.rejoin + request_.lease));
  }

  void refuse(int code, const std::string& why) {
    JobState state(job_options(plan_, request_));
    state.phase = JobPhase::kFailed;
    state.exit_code = code;
    state.cause = Cause{.code = code, .text = "preflight: " + why};
    log::error("preflight: not started: {}", why);
    note([&] { journal_.moved(state, Moved{state.phase, state.generation}); });
    write_down(state);
  }

  void begin(Clock::time_point since) {
    if (members_.empty()) {
      members_.resize(plan_.layout.hosts.size());
      std::iota(members_.begin(), members_.end(), 0);
    }
    coordinator_.emplace(
        context_, job_options(plan_, request_),
        Coordinator::Hooks{
            .send =
                [this](int number, const Command& command) {
                  agents_->send(agent_of(number), command);
                },
            .replace =
                [this](int number) { agents_->replace(agent_of(number)); },
            .checkpoint_step =
                [this] { return newest_checkpoint_step(plan_.run); },
            .moved =
                [this](const JobState& state, const Moved& moved) {
                  note([&] { journal_.moved(state, moved); });
                },
            .rank_ended =
                [this](const RankEnded& ended) {
                  note([&] { journal_.rank_ended(ended); });
                },
            .changed = [this](const JobState& state) { write_down(state); }});
    if (!written_.empty()) note_strangers();
    coordinator_->begin(since, begin_);
  }

  [[nodiscard]] int agent_of(int number) const {
    return members_.at(static_cast<std::size_t>(number));
  }
  /// -1: it is not of the job.
  [[nodiscard]] int number_of(int agent) const {
    const auto at = std::lower_bound(members_.begin(), members_.end(), agent);
    return at == members_.end() || *at != agent
               ? -1
               : static_cast<int>(at - members_.begin());
  }

  void hear(const Report& report) {
    Report renumbered = report;
    renumbered.agent = number_of(report.agent);
    if (coordinator_ && renumbered.agent >= 0) {
      coordinator_->receive(renumbered);
    }
  }

  void lose(int agent, const std::string& why) {
    if (!coordinator_) return preflight_->went(agent, why);
    const int number = number_of(agent);
    if (number >= 0) coordinator_->agent_gone(number, why);
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
    if (!coordinator_) {
      if (signal == SIGUSR1 || signal == SIGUSR2) return preflight_->inspect();
      begin(begin_);
    }
    if (signal == SIGUSR1) {
      log::info("{}: ranks save and go on", strsignal(signal));
      return coordinator_->save();
    }
    if (signal == SIGUSR2) return coordinator_->inspect();
    log::info("{}: {}", strsignal(signal),
              coordinator_->state().stop_code == 0
                  ? "ranks save and end; again to end at once"
                  : "ending at once");
    coordinator_->stop(signal);
  }

  /// The ranks have the same disk, and say more of it.
  template <class Write>
  static void note(const Write& write) {
    try {
      write();
    } catch (const Error& error) {
      log::warning("{}", error.what());
    }
  }

  void note_strangers() {
    note_.expires_after(kBetweenCounts);
    note_.async_wait([this](const boost::system::error_code& error) {
      if (error) return;
      if (written_ != agents_->rejected()) save(coordinator_->state());
      note_strangers();
    });
  }

  void save(const JobState& state) {
    const std::chrono::duration<double> seconds = Clock::now() - begin_;
    written_ = agents_->rejected();
    note([&] {
      write_file_atomically(
          plan_.run / "job.json",
          result_json(plan_, state, seconds.count(), written_));
    });
  }

  void write_down(const JobState& state) {
    save(state);
    if (is_end(state.phase)) {
      log::info("{} after {} restarts, code {}; see {}", name_of(state.phase),
                state.policy.restarts, state.exit_code,
                (plan_.run / "job.json").string());
      exit_code_ = state.exit_code;
      ended_ = true;
      context_.stop();
    }
  }

  JobPlan plan_;
  const LaunchRequest& request_;
  const Clock::time_point begin_ = Clock::now();
  Journal journal_;
  asio::io_context context_;
  std::optional<Preflight> preflight_;
  std::optional<Coordinator> coordinator_;
  std::unique_ptr<Agents> agents_;
  asio::signal_set signals_;
  asio::steady_timer note_, limit_;
  /// Agents::rejected(), as job.json has it; empty: nobody can connect.
  std::map<std::string, std::int64_t> written_ = agents_->rejected();
  std::vector<int> members_ = {};  ///< agents of the job, ascending
  int exit_code_ = 0;
  bool ended_ = false;
};

}  // namespace

int run_job(const JobPlan& plan, const LaunchRequest& request) {
  const FileLock lock(plan.run / "launcher.lock");
  if (!lock.held()) {
    fail(ErrorKind::kUsage,
         "{}: another launcher is at work there; wait for it, or choose "
         "another folder with --set run.folder=...",
         plan.run.string());
  }
  log::open_file(plan.run / "launcher.log");
  log::info("{} ranks on {}, run in {}", plan.ranks, host_names(plan.layout),
            plan.run.string());
  std::optional<Monitor> monitor;
  JobPlan shown = plan;
  if (request.dashboard) {
    monitor.emplace(plan.run, request.dashboard_at);
    shown.dashboard = monitor->address();
    log::info("{}", monitor->announcement());
  }
  return Job(shown, request).run();
}

}  // namespace catena::launcher
