#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "launcher/contact.h"
#include "launcher/messages.h"
#include "launcher/restart_policy.h"

namespace catena::launcher {

/// How a job is to be run.
struct JobOptions {
  /// The ranks of each agent: agent 0's are ranks[0]. Rank 0 is agent 0's.
  std::vector<std::vector<int>> ranks = {};
  /// How many of them are enough for a generation; 0: all. With fewer, each
  /// has as many ranks as it is given above, numbered anew from 0.
  int least_agents = 0;
  /// For the others to be ready, before it begins without them.
  Duration rejoin = std::chrono::seconds(30);
  std::vector<std::string> hosts = {};  ///< of each agent, for people; or none
  /// Of each rank, where an agent has several.
  std::vector<std::string> rank_hosts = {};
  RestartPolicy policy = {};
  /// For all agents to be ready, and for all ranks of a generation to meet.
  Duration start_timeout = std::chrono::seconds(600);
  /// Between SIGTERM and SIGKILL, by the agents' clocks.
  Duration grace = std::chrono::seconds(30);
  /// After a failure, before the others are ended: they may tell more of it.
  Duration settle = std::chrono::milliseconds(500);
  /// What an agent may take longer than `grace` to be empty.
  Duration margin = std::chrono::seconds(10);
  /// For the whole job, as begin() says; then it is stopped in order. 0: none.
  Duration time_limit = {};
  ContactRules contact = {};
};

/// A job as its coordinator knows it: a pure state machine, as RankState is.
///
///   NEW -> STARTING -> RENDEZVOUS -> RUNNING -> [SAVING ->] STOPPING -> end
///             ^--------- RESTARTING <-------------------------'
///
/// end: SUCCEEDED, FAILED, PREEMPTED (stopped on request, saved) or CANCELLED.
///
/// Invariants: a generation begins only when every agent has said, rank by
/// rank, that the one before is empty; reports of another generation are
/// dropped; no more than policy.most_restarts restarts; an end is final, and
/// there is one. An agent that is lost (launcher/contact.h), or another process
/// than before, has no ranks of this generation left; the next one waits until
/// it, or the process that takes its place, is ready, or (with least_agents)
/// until that takes too long. Who is left out and ready later has ranks again
/// in the next generation.
enum class JobPhase {
  kNew,
  kStarting,    ///< agents, then an address for the ranks, are waited for
  kRendezvous,  ///< ranks run and have not all met
  kRunning,
  kSaving,      ///< ranks stop by themselves, after saving
  kStopping,    ///< the generation is being ended
  kRestarting,  ///< it has ended; the next one is about to start
  kSucceeded,
  kFailed,
  kPreempted,
  kCancelled,
};
[[nodiscard]] const char* name_of(JobPhase phase);  ///< "RUNNING"
[[nodiscard]] bool is_end(JobPhase phase);

struct JobState {
  explicit JobState(JobOptions job_options);

  JobOptions options;
  RestartPolicy policy;
  JobPhase phase = JobPhase::kNew;
  int generation = 0;
  std::set<int> ready = {};  ///< agents that run nothing older
  /// Of each agent, in this generation; an agent without any is left out.
  std::vector<std::vector<int>> ranks;
  int world = 0;                ///< ranks of all
  int agents = 0;               ///< that have ranks
  std::vector<int> nodes = {};  ///< of each agent: its place among these
  Contacts contacts;
  /// Agents that are lost, and left out: how often another process was started
  /// in their place, and from when on it may be tried again.
  struct Absence {
    int tries = 0;
    Time until = {};
  };
  std::map<int, Absence> absences = {};

  // Of this generation.
  bool laid = false;     ///< it is decided which agents have which ranks
  bool started = false;  ///< agents were told to start ranks
  std::string rendezvous = {};
  bool at_once = false;                  ///< as Stop says
  std::set<int> known = {};              ///< agents that were heard in it
  std::set<int> empty = {};              ///< agents, of those with ranks
  std::set<int> joined = {};             ///< ranks
  std::vector<RankEnding> endings = {};  ///< in the order of their reports
  std::set<int> ended = {};              ///< the ranks of `endings`
  std::optional<Cause> trouble = {};     ///< that is no rank's end

  // Deadlines.
  Time since = {};  ///< that start_until counts from
  std::optional<Time> start_until = {}, note_at = {}, settle_until = {},
                      save_until = {}, stop_until = {}, restart_at = {},
                      repeat_at = {}, rejoin_until = {}, job_until = {};

  /// What the job ends with if nothing is saved; 0: no end was asked for.
  int stop_code = 0;
  bool cancelled = false;             ///< a second one did
  std::int64_t checkpoint_step = 0;   ///< newest there is
  std::int64_t step = 0;              ///< furthest that a rank said
  int exit_code = 0;                  ///< once it has ended
  std::optional<Cause> cause = {};    ///< of the last failure
  std::vector<Cause> restarted = {};  ///< of each restart
  std::int64_t stale = 0;             ///< reports that were dropped
};

// What is to be done.

struct SendCommand {
  int agent;
  Command command;
};
/// Start another process in the place of an agent that is lost. What is left
/// of the former one is not to be heard any more.
struct ReplaceAgent {
  int agent;
};
/// For people: how it goes, or (with `bad`) what went wrong.
struct Say {
  bool bad;
  std::string text;
};
/// For the job's journal: it is in another phase; comes before what is done for
/// that.
struct Moved {
  JobPhase phase;
  int generation;
};
/// For the journal: how a rank ended, once a rank of each generation, and not
/// at all where its agent was lost.
struct RankEnded {
  int generation;
  RankEnding ending;
};
/// The job has ended: state.phase and state.exit_code say how. Once.
struct Finish {};
using JobAction =
    std::variant<SendCommand, ReplaceAgent, Say, Moved, RankEnded, Finish>;
using JobActions = std::vector<JobAction>;

// What happens.

/// `launched`: what the time limit counts from; none: `now`.
[[nodiscard]] JobActions begin(JobState& state, Time now,
                               std::optional<Time> launched = {});
[[nodiscard]] JobActions receive(JobState& state, const Report& report,
                                 Time now);
/// Nothing more is heard of this process of the agent, as its connection or it
/// itself has ended, or could not be started. Before the first generation that
/// is the job's end. For agents with contact.on().
[[nodiscard]] JobActions agent_gone(JobState& state, int agent,
                                    const std::string& why, Time now);
/// Signal to the launcher: the first asks for an orderly stop, the second
/// ends everything at once.
[[nodiscard]] JobActions stop_requested(JobState& state, int signal, Time now);
/// Ranks that run are to save, and to go on.
[[nodiscard]] JobActions save_requested(const JobState& state, Time now);
/// How the job is, and every rank, is to be said.
[[nodiscard]] JobActions inspect_requested(const JobState& state, Time now);
/// The newest checkpoint has this step; to be said before a GenerationEmpty.
void checkpoint_seen(JobState& state, std::int64_t step);
[[nodiscard]] std::optional<Time> next_deadline(const JobState& state);
[[nodiscard]] JobActions tick(JobState& state, Time now);

}  // namespace catena::launcher
