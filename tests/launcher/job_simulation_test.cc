// Whole jobs in virtual time: the state machines of a job and its agents, with
// ranks that live, hang and die by chance, and messages that come late, twice
// and in another order. Half of the jobs are on many machines: there messages
// are lost, too, links are cut in one direction or both, agents crash and come
// back, and connections end; agents that are lost are replaced, or the job goes
// on with fewer.
// CATENA_SCHEDULES says how many schedules (2000).

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <csignal>
#include <cstdlib>
#include <map>
#include <set>
#include <tuple>

#include "launcher/agent_state.h"
#include "launcher/contract.h"
#include "launcher/job_state.h"
#include "tests/launcher/starts_seen.h"
#include "tests/launcher/told.h"
#include "tests/launcher/virtual_time.h"

namespace catena::launcher {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class Simulation : private VirtualTime {
 public:
  Simulation(unsigned seed, bool lossy)
      : VirtualTime(seed), lossy_(lossy), job_(draw_options()) {
    const auto agents = job_.options.ranks.size();
    for (std::size_t agent = 0; agent < agents; ++agent) {
      agents_.push_back(new_agent(static_cast<int>(agent)));
    }
    agent_wakes_.resize(agents);
    from_.resize(agents);
    to_.resize(agents);
  }

  void run() {
    act(begin(job_, now()));
    for (int agent = 0; agent < static_cast<int>(agents_.size()); ++agent) {
      begin_agent(agent);
      if (lossy_) plan_trouble(agent);
    }
    if (chance(0.2)) later(draw(0, 20000), [this] { ask(); });
    if (chance(0.1)) later(draw(0, 20000), [this] { ask(); });
    int left = 200000;
    while (!is_over() && !::testing::Test::HasFailure() && !over()) {
      if (--left == 0) ADD_FAILURE() << "it goes on for ever";
      next();
      check();
    }
    EXPECT_TRUE(is_end(job_.phase)) << name_of(job_.phase);
    EXPECT_EQ(finished_, 1) << "V10";
    EXPECT_EQ(told_.phase(), job_.phase);
    EXPECT_TRUE(alive_.empty()) << "V1";
  }
  /// Whether a generation had fewer ranks than the job.
  [[nodiscard]] bool was_smaller() const { return starts_.was_smaller(); }

 private:
  struct Alive {
    int agent, generation, rank, process;
    bool saves = false;  ///< it heeds SIGTERM
    friend auto operator<=>(const Alive&, const Alive&) = default;
  };

  /// Agents that were not told that the job is over say so for ever.
  [[nodiscard]] bool over() const {
    return is_end(job_.phase) && alive_.empty() && lossy_;
  }
  AgentState new_agent(int number) {
    AgentState agent(number, job_.options.grace, seconds(4),
                     job_.options.contact);
    agent.incarnation = ++incarnations_;
    return agent;
  }
  void begin_agent(int agent) {
    begin(at(agent), now());
    deliver(Report{agent, 0, AgentReady{}, at(agent).incarnation});
    act(agent, {});
  }

  /// A link that is cut, and a process that crashes with all its ranks and may
  /// come back as another.
  void plan_trouble(int agent) {
    const auto index = static_cast<std::size_t>(agent);
    if (chance(0.3)) {
      const int begin = draw(0, 15000), until = begin + draw(100, 20000);
      if (chance(0.7)) from_[index] = {begin, until};
      if (chance(0.7)) to_[index] = {begin, until};
    }
    if (chance(0.2)) later(draw(0, 15000), [this, agent] { crash(agent); });
    if (chance(0.2)) later(draw(0, 15000), [this, agent] { hang_up(agent); });
  }
  void crash(int agent) {
    std::erase_if(alive_,
                  [agent](const Alive& rank) { return rank.agent == agent; });
    // It may take until its lease is over until the coordinator notices.
    if (chance(0.5)) later(draw(0, 500), [this, agent] { hang_up(agent); });
    // What is under way to the one before does not reach the next one.
    at(agent) = new_agent(agent);
    down_.insert(agent);
    if (chance(0.5)) begin_later(agent, draw(10, 15000));
  }
  void begin_later(int agent, int when) {
    later(when, [this, agent, which = at(agent).incarnation] {
      if (at(agent).incarnation != which || !down_.erase(agent)) return;
      begin_agent(agent);
    });
  }
  /// The connection ends, and the coordinator sees it; the agent may not, and
  /// keeps its ranks until its lease is over.
  void hang_up(int agent) {
    const auto which = connected_[agent];
    if (which == 0 || !hung_up_.insert(which).second) return;
    act(agent_gone(job_, agent, "hung up", now()));
  }
  void replace(int agent) {
    EXPECT_FALSE(finished_ > 0) << "V9: an agent after the end";
    for (const Alive& rank : alive_) {
      EXPECT_NE(rank.agent, agent) << "V5: an agent is replaced, and has ranks";
    }
    hung_up_.insert(connected_[agent]);
    const auto former = at(agent).incarnation;
    if (!down_.contains(agent)) hung_up_.insert(former);
    at(agent) = new_agent(agent);
    down_.insert(agent);
    if (chance(0.2)) {
      later(draw(10, 5000), [this, agent, which = at(agent).incarnation] {
        if (at(agent).incarnation != which) return;
        act(agent_gone(job_, agent, "it does not start", now()));
      });
    } else {
      begin_later(agent, draw(10, 8000));
    }
  }
  using Cut = std::pair<int, int>;  ///< from, until: milliseconds
  [[nodiscard]] bool lost(const Cut& cut) {
    if (!lossy_) return false;
    const auto since = passed().count();
    return chance(0.1) || (since >= cut.first && since < cut.second);
  }

  JobOptions draw_options() {
    JobOptions options{.policy = {.most_restarts = draw(0, 5)},
                       .start_timeout = seconds(20),
                       .grace = seconds(draw(0, 5))};
    if (lossy_) {
      options.contact = {.heartbeat = milliseconds(500),
                         .lease = seconds(3),
                         .margin = seconds(1)};
    }
    int rank = 0;
    for (int agents = draw(1, 4); agents > 0; --agents) {
      auto& ranks = options.ranks.emplace_back();
      for (int ranks_here = draw(1, 3); ranks_here > 0; --ranks_here) {
        ranks.push_back(rank++);
      }
    }
    if (lossy_ && chance(0.5)) {
      options.least_agents = draw(1, static_cast<int>(options.ranks.size()));
      options.rejoin = seconds(draw(0, 5));
    }
    return options;
  }

  void ask() { act(stop_requested(job_, SIGTERM, now())); }

  /// Late, now and then twice; and so in another order.
  void deliver(const Report& report) {
    if (lost(from_[static_cast<std::size_t>(report.agent)])) return;
    for (int copy = chance(0.1) ? 2 : 1; copy > 0; --copy) {
      later(draw(0, 200), [this, report] {
        if (hung_up_.contains(report.incarnation)) return;
        auto& known = connected_[report.agent];
        known = std::max(known, report.incarnation);
        const bool stale = report.generation != job_.generation;
        const auto before = job_.stale;
        checkpoint_seen(job_, checkpoint_);
        act(receive(job_, report, now()));
        if (stale && report.generation != 0) {
          EXPECT_EQ(job_.stale, before + 1) << "V5";
        }
      });
    }
  }
  /// They go to the process that the coordinator has heard, by the connection
  /// that it made, and die with it.
  void deliver(int agent, const Command& command) {
    if (lost(to_[static_cast<std::size_t>(agent)])) return;
    const auto to = connected_[agent];
    for (int copy = chance(0.1) ? 2 : 1; copy > 0; --copy) {
      later(draw(0, 200), [this, agent, to, command] {
        if (at(agent).incarnation != to || down_.contains(agent)) return;
        if (hung_up_.contains(to)) return;
        act(agent, receive(at(agent), command, now()));
      });
    }
  }
  AgentState& at(int agent) {
    return agents_.at(static_cast<std::size_t>(agent));
  }

  void act(const JobActions& actions) {
    for (const JobAction& action : actions) {
      if (std::holds_alternative<Finish>(action)) ++finished_;
      told_.note(action);
      if (const auto* lost = std::get_if<ReplaceAgent>(&action)) {
        replace(lost->agent);
      }
      if (const auto* send = std::get_if<SendCommand>(&action)) {
        EXPECT_FALSE(finished_ > 0) << "V9: a command after the end";
        starts_.note(*send);
        deliver(send->agent, send->command);
      }
    }
    wake_job();
  }
  void wake_job() {
    const auto deadline = next_deadline(job_);
    if (!deadline || deadline == job_wakes_) return;
    job_wakes_ = deadline;
    wake_at(*deadline, [this] {
      job_wakes_.reset();
      act(tick(job_, now()));
    });
  }

  void act(int agent, const AgentActions& actions) {
    for (const AgentAction& action : actions) {
      std::visit(Overloaded{[&](const OpenListener& a) {
                              act(agent, listener_opened(at(agent),
                                                         a.generation, "h:1"));
                            },
                            [&](const SpawnRank& a) { spawn(agent, a); },
                            [&](const SignalRank& a) { signal(agent, a); },
                            [&](const InspectRank& a) { inspect(agent, a); },
                            [&](const Report& report) { note(report); }},
                 action);
    }
    wake_agent(agent);
  }
  void wake_agent(int agent) {
    const auto deadline = next_deadline(at(agent));
    auto& wakes = agent_wakes_[static_cast<std::size_t>(agent)];
    if (!deadline || deadline == wakes) return;
    wakes = deadline;
    wake_at(*deadline, [this, agent] {
      agent_wakes_[static_cast<std::size_t>(agent)].reset();
      if (!down_.contains(agent)) act(agent, tick(at(agent), now()));
    });
  }
  void inspect(int agent, const InspectRank& action) {
    note({agent, action.generation, action.suspected, at(agent).incarnation});
  }
  void note(const Report& report) {
    if (const auto* exited = std::get_if<RankExited>(&report.body)) {
      EXPECT_TRUE(ended_
                      .insert({report.incarnation, report.generation,
                               exited->ending.rank})
                      .second)
          << "V10: a rank that ends twice";
    }
    deliver(report);
  }

  void spawn(int agent, const SpawnRank& action) {
    if (chance(0.02)) {
      act(agent, rank_reaped(at(agent), action.generation, action.rank,
                             kExitNotExecutable, 0, ""));
      return;
    }
    const Alive rank{agent, action.generation, action.rank, ++processes_,
                     chance(0.8)};
    alive_.insert(rank);
    act(agent, rank_spawned(at(agent), rank.rank, rank.process, now()));
    if (chance(0.95)) say(rank, kSaidJoined, draw(0, 3000));
    // One that says nothing more hangs, and is ended for it.
    if (chance(0.1)) say(rank, "section load", draw(0, 5000));
    if (chance(0.5)) {
      later(draw(3000, 9000), [this] { checkpoint_ += draw(0, 1) * 10; });
    }
    live(rank);
  }
  /// How it ends, if nobody ends it: well, badly, or not at all.
  void live(const Alive& rank) {
    const int fate = draw(0, 19);
    if (fate < 12) {
      say(rank, kSaidDone, 12000);
      leave(rank, kExitSuccess, 0, 12001);
    } else if (fate < 15) {
      leave(rank, 0, SIGKILL, draw(0, 12000));
    } else if (fate < 17) {
      const int codes[] = {1, 69, 70, 75, kExitConfig, 0};
      leave(rank, codes[draw(0, 5)], 0, draw(0, 12000));
    }
    // It must end some time: a hang that nobody notices is not for here.
    leave(rank, 0, SIGABRT, 60000);
  }
  void say(const Alive& rank, const char* word, int when) {
    later(when, [this, rank, word] {
      if (!alive_.contains(rank)) return;
      act(rank.agent,
          rank_said(at(rank.agent), rank.generation, rank.rank, word, now()));
    });
  }
  void leave(const Alive& rank, int code, int by_signal, int when) {
    later(when, [this, rank, code, by_signal] {
      if (alive_.erase(rank) == 0) return;
      act(rank.agent, rank_reaped(at(rank.agent), rank.generation, rank.rank,
                                  code, by_signal, ""));
    });
  }
  void signal(int agent, const SignalRank& action) {
    for (const Alive& rank : alive_) {
      if (rank.agent != agent || rank.process != action.process) continue;
      if (action.signal == SIGKILL) leave(rank, 0, SIGKILL, draw(0, 20));
      if (action.signal == SIGTERM && rank.saves) {
        leave(rank, kExitPreempted, 0, draw(0, 2000));
      }
      return;
    }
    ADD_FAILURE() << "a signal to a process that was reaped";
  }

  void check() {
    std::set<int> living;
    for (const Alive& rank : alive_) living.insert(rank.generation);
    EXPECT_LE(living.size(), 1U) << "V5: ranks of two generations at once";
    EXPECT_LE(job_.policy.restarts, job_.options.policy.most_restarts) << "V9";
    EXPECT_LE(starts_.generations(), job_.options.policy.most_restarts + 1)
        << "V9";
    EXPECT_LE(finished_, 1) << "V10";
  }

  const bool lossy_;
  JobState job_;
  StartsSeen starts_{job_.options};
  std::optional<Time> job_wakes_;
  std::vector<AgentState> agents_;
  std::vector<std::optional<Time>> agent_wakes_;
  std::vector<Cut> from_, to_;  ///< by agent: when its messages are lost
  std::set<int> down_;          ///< agents that have crashed
  std::map<int, std::uint64_t> connected_;  ///< the incarnation of each
  std::set<std::uint64_t> hung_up_;         ///< incarnations
  std::uint64_t incarnations_ = 0;
  std::set<Alive> alive_;
  std::set<std::tuple<std::uint64_t, int, int>> ended_;
  Told told_;
  int finished_ = 0, processes_ = 0;
  std::int64_t checkpoint_ = 0;
};

TEST(JobSimulationTest, InvariantsHoldWhateverHappens) {
  const char* told = std::getenv("CATENA_SCHEDULES");
  const unsigned schedules =
      told == nullptr ? 2000U : static_cast<unsigned>(std::atoi(told));
  unsigned smaller = 0;
  for (unsigned seed = 0; seed < schedules; ++seed) {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    Simulation simulation(seed, seed % 2 == 1);
    simulation.run();
    if (simulation.was_smaller()) ++smaller;
    if (HasFailure()) return;
  }
  EXPECT_GT(smaller, schedules / 100) << "jobs that went on with fewer";
}

}  // namespace
}  // namespace catena::launcher
