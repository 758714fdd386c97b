// Whole jobs in virtual time: the state machines of a job and its agents, with
// ranks that live and die by chance, and messages that come late, twice and in
// another order. CATENA_SCHEDULES says how many schedules (2000).

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <csignal>
#include <cstdlib>
#include <functional>
#include <map>
#include <random>
#include <set>

#include "launcher/agent_state.h"
#include "launcher/contract.h"
#include "launcher/job_state.h"

namespace catena::launcher {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class Simulation {
 public:
  explicit Simulation(unsigned seed) : random_(seed), job_(draw_options()) {
    for (int agent = 0; agent < static_cast<int>(job_.options.ranks.size());
         ++agent) {
      agents_.emplace_back(agent, job_.options.grace);
    }
  }

  void run() {
    act(begin(job_, now_));
    for (const AgentState& agent : agents_) {
      deliver(Report{agent.agent, 0, AgentReady{}});
    }
    if (chance(0.2)) later(draw(0, 20000), [this] { ask(); });
    if (chance(0.1)) later(draw(0, 20000), [this] { ask(); });
    while (!events_.empty() && !::testing::Test::HasFailure()) {
      const auto first = events_.begin();
      now_ = first->first;
      const auto event = std::move(first->second);
      events_.erase(first);
      event();
      check();
    }
    EXPECT_TRUE(is_end(job_.phase)) << name_of(job_.phase);
    EXPECT_EQ(finished_, 1) << "V10";
    EXPECT_TRUE(alive_.empty()) << "V1";
  }

 private:
  struct Alive {
    int agent, generation, rank, process;
    bool saves = false;  ///< it heeds SIGTERM
    friend auto operator<=>(const Alive&, const Alive&) = default;
  };

  int draw(int least, int most) {
    return std::uniform_int_distribution(least, most)(random_);
  }
  bool chance(double share) {
    return std::uniform_real_distribution()(random_) < share;
  }
  JobOptions draw_options() {
    JobOptions options{.policy = {.most_restarts = draw(0, 5)},
                       .start_timeout = seconds(20),
                       .grace = seconds(draw(0, 5))};
    int rank = 0;
    for (int agents = draw(1, 4); agents > 0; --agents) {
      auto& ranks = options.ranks.emplace_back();
      for (int ranks_here = draw(1, 3); ranks_here > 0; --ranks_here) {
        ranks.push_back(rank++);
      }
    }
    return options;
  }

  template <class Event>
  void later(int after_milliseconds, Event event) {
    events_.emplace(now_ + milliseconds(after_milliseconds), event);
  }

  void ask() { act(stop_requested(job_, SIGTERM, now_)); }

  /// Late, now and then twice; and so in another order.
  void deliver(const Report& report) {
    for (int copy = chance(0.1) ? 2 : 1; copy > 0; --copy) {
      later(draw(0, 200), [this, report] {
        const bool stale = report.generation != job_.generation;
        const auto before = job_.stale;
        checkpoint_seen(job_, checkpoint_);
        act(receive(job_, report, now_));
        if (stale && report.generation != 0) {
          EXPECT_EQ(job_.stale, before + 1) << "V5";
        }
      });
    }
  }
  void deliver(int agent, const Command& command) {
    for (int copy = chance(0.1) ? 2 : 1; copy > 0; --copy) {
      later(draw(0, 200), [this, agent, command] {
        act(agent, receive(at(agent), command, now_));
      });
    }
  }
  AgentState& at(int agent) {
    return agents_.at(static_cast<std::size_t>(agent));
  }

  void act(const JobActions& actions) {
    for (const JobAction& action : actions) {
      if (std::holds_alternative<Finish>(action)) ++finished_;
      if (const auto* send = std::get_if<SendCommand>(&action)) {
        EXPECT_FALSE(finished_ > 0) << "V9: a command after the end";
        if (std::holds_alternative<StartGeneration>(send->command.body)) {
          generations_.insert(send->command.generation);
        }
        deliver(send->agent, send->command);
      }
    }
    wake_job();
  }
  void wake_job() {
    const auto deadline = next_deadline(job_);
    if (!deadline || deadline == job_wakes_) return;
    job_wakes_ = deadline;
    events_.emplace(std::max(now_, *deadline), [this] {
      job_wakes_.reset();
      act(tick(job_, now_));
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
                            [&](const Report& report) { note(report); }},
                 action);
    }
    if (const auto deadline = next_deadline(at(agent))) {
      events_.emplace(std::max(now_, *deadline),
                      [this, agent] { act(agent, tick(at(agent), now_)); });
    }
  }
  void note(const Report& report) {
    if (const auto* exited = std::get_if<RankExited>(&report.body)) {
      EXPECT_TRUE(
          ended_.insert({report.generation, exited->ending.rank}).second)
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
    act(agent, rank_spawned(at(agent), rank.rank, rank.process, now_));
    if (chance(0.95)) say(rank, kSaidJoined, draw(0, 3000));
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
          rank_said(at(rank.agent), rank.generation, rank.rank, word));
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
    EXPECT_LE(static_cast<int>(generations_.size()),
              job_.options.policy.most_restarts + 1)
        << "V9";
    EXPECT_LE(finished_, 1) << "V10";
  }

  std::mt19937 random_;
  Time now_ = Time(seconds(1000));
  std::multimap<Time, std::function<void()>> events_;
  JobState job_;
  std::optional<Time> job_wakes_;
  std::vector<AgentState> agents_;
  std::set<Alive> alive_;
  std::set<std::pair<int, int>> ended_;
  std::set<int> generations_;
  int finished_ = 0, processes_ = 0;
  std::int64_t checkpoint_ = 0;
};

TEST(JobSimulationTest, InvariantsHoldWhateverHappens) {
  const char* told = std::getenv("CATENA_SCHEDULES");
  const unsigned schedules =
      told == nullptr ? 2000U : static_cast<unsigned>(std::atoi(told));
  for (unsigned seed = 0; seed < schedules; ++seed) {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    Simulation(seed).run();
    if (HasFailure()) return;
  }
}

}  // namespace
}  // namespace catena::launcher
