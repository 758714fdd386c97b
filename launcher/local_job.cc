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
#include "launcher/engines.h"
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

bool is_remote(const LaunchRequest& request) {
  return request.engine != Engine::kMpi &&
         (request.agents > 0 || !request.hosts.empty());
}

/// Machines that only mpirun reaches have no agent that could look at them.
bool may_look(const LaunchRequest& request) {
  return request.preflight &&
         (request.engine != Engine::kMpi || request.hosts.empty());
}

/// mpirun has them all, as one agent.
void join_ranks(JobOptions& options, const RankLayout& layout) {
  options.hosts = {host_names(layout)};
  // They are numbered host by host.
  for (std::size_t i = 0; i < layout.ranks.size(); ++i) {
    options.rank_hosts.insert(options.rank_hosts.end(), layout.ranks[i].size(),
                              layout.hosts[i].name);
  }
  for (std::size_t i = 1; i < options.ranks.size(); ++i) {
    options.ranks[0].insert(options.ranks[0].end(), options.ranks[i].begin(),
                            options.ranks[i].end());
  }
  options.ranks.resize(1);
}

JobOptions job_options(const JobPlan& plan, const LaunchRequest& request) {
  JobOptions options{.ranks = plan.layout.ranks,
                     .least_agents = request.least_agents,
                     .rejoin = request.rejoin,
                     .policy = {.most_restarts = request.max_restarts},
                     .start_timeout = request.start_timeout,
                     .grace = request.grace,
                     .time_limit = request.time_limit};
  for (const Host& host : plan.layout.hosts) options.hosts.push_back(host.name);
  if (is_remote(request)) options.contact = contact_rules(request.lease);
  if (request.engine == Engine::kMpi) join_ranks(options, plan.layout);
  return options;
}

RankSetup rank_setup(const JobPlan& plan, const LaunchRequest& request) {
  std::vector<std::string> environment = request.environment;
  environment.push_back(
      fmt::format("{}={}", kMaxRestartsVariable, request.max_restarts));
  return {.program = plan.program,
          .arguments = plan.arguments,
          .job = plan.job,
          .token = random_secret(),
          .run = plan.run,
          .grace = request.grace,
          .section_timeout = request.section_timeout,
          .environment = std::move(environment),
          .bind = request.bind,
          .share = rank_shares(plan.layout).front()};
}

RemoteOptions remote_options(const JobPlan& plan,
                             const LaunchRequest& request) {
  RemoteOptions options{.commands = {},
                        .hosts = {},
                        .shares = rank_shares(plan.layout),
                        .address = request.address,
                        .tls = false,
                        .lease = request.lease,
                        .preflight = may_look(request)};
  for (const Host& host : all_hosts(plan, request)) {
    options.hosts.push_back(host.name);
    options.commands.push_back(agent_command(request.engine, host));
  }
  if (options.address.empty()) {
    options.address = request.hosts.empty()
                          ? "127.0.0.1"
                          : address_towards(plan.layout.hosts);
  }
  const bool local = is_loopback(options.address);
  options.tls = request.tls.value_or(!local);
  if (options.tls) {
    log::info("agents connect to {} by TLS 1.3", options.address);
  } else if (!local) {
    log::warning(
        "agents connect to {} without TLS (--tls off): who can read the wire "
        "reads arguments, environment and the token of the ranks",
        options.address);
  }
  return options;
}

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
        note_(context_) {
    for (const int more : {SIGQUIT, SIGUSR1, SIGUSR2}) signals_.add(more);
  }

  int run() {
    wait_for_signals();
    if (!may_look(request_)) {
      begin(begin_);
    } else if (is_remote(request_)) {
      look_at_all();
    } else {
      follow(preflight_here(plan_, request_));
    }
    if (ended_) return exit_code_;
    agents_->start();
    context_.run();
    return exit_code_;
  }

 private:
  void look_at_all() {
    JobState waiting(job_options(plan_, request_));
    waiting.phase = JobPhase::kStarting;
    write_down(waiting);
    preflight_.emplace(
        context_, preflight_options(plan_, request_),
        Preflight::Hooks{
            .ask = [this](int agent,
                          const Probe& probe) { agents_->probe(agent, probe); },
            .done = [this](const PreflightState& state) { follow(state); }});
    preflight_->begin();
  }

  /// Does what follows from what was found.
  void follow(const PreflightState& found) {
    const Chosen chosen = conclude(plan_, request_, found);
    if (chosen.code != 0) return refuse(chosen.code, chosen.why);
    const std::size_t all = all_hosts(plan_, request_).size();
    try {
      plan_ = plan_on(plan_, request_, chosen.nodes);
    } catch (const Error& error) {
      return refuse(kExitNotAssembled, error.what());
    }
    members_ = chosen.nodes;
    for (std::size_t i = 0; i < all; ++i) {
      const int agent = static_cast<int>(i);
      if (number_of(agent) < 0) agents_->dismiss(agent);
    }
    const bool all_came =
        std::all_of(members_.begin(), members_.end(),
                    [&](int agent) { return found.there.contains(agent); });
    // Who did not come was waited for already.
    begin(all_came ? Clock::now() : begin_);
    const std::vector<RankShare> shares = rank_shares(plan_.layout);
    std::map<int, RankShare> of_agents;
    for (std::size_t i = 0; i < shares.size(); ++i) {
      of_agents[members_.at(i)] = shares[i];
    }
    agents_->set_up(of_agents);
    for (const auto& [agent, why] : found.gone) lose(agent, why);
  }

  void refuse(int code, const std::string& why) {
    JobState state(job_options(plan_, request_));
    state.phase = JobPhase::kFailed;
    state.exit_code = code;
    state.cause = Cause{.code = code, .text = "preflight: " + why};
    log::error(
        "preflight: not started: {}; --no-preflight starts it all the "
        "same",
        why);
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
    coordinator_->begin(since);
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
  asio::steady_timer note_;
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
    log::info("dashboard at {}", shown.dashboard);
  }
  return Job(shown, request).run();
}

}  // namespace catena::launcher
