#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <variant>
#include <vector>

namespace catena::launcher {

/// What coordinator and agents say to each other. Every message is of one
/// generation (the how many-th start of the job's ranks, from 1): who is in
/// another drops it. An agent on another machine is these messages over a wire.
/// Times are never said: deadlines are durations by the receiver's own clock.

using Time = std::chrono::steady_clock::time_point;
using Duration = std::chrono::steady_clock::duration;

/// How a rank's process ended, and how far it had come.
struct RankEnding {
  int rank = 0;
  int process = 0;  ///< its id; 0 if it could not be started
  int code = 0;     ///< exit code; 0 if a signal ended it
  int signal = 0;   ///< 0 if it left by itself
  bool joined = false, done = false;
  bool lost = false;          ///< it ends because another rank did: it said so
  bool stopped = false;       ///< it had been asked to end
  bool hung = false;          ///< its agent ended it, as it said nothing
  std::int64_t step = 0;      ///< the last it said; 0: none
  std::string section{};      ///< what it said it was doing
  int waits_for = -1;         ///< the rank it said it waited for; -1: none
  std::string waits_in{};     ///< the exchange in which it did, or lost a rank
  double silent_seconds = 0;  ///< of one that hung
  std::string last_words{};   ///< end of what it wrote, or why it did not start

  friend bool operator==(const RankEnding&, const RankEnding&) = default;
};

// Coordinator to agent.

/// Listen where rank 0 will serve the others; answered by RendezvousOpen.
struct OpenRendezvous {};
/// Start these ranks; `rendezvous` is empty where there is one rank alone.
struct StartGeneration {
  int world = 1;
  std::vector<int> ranks = {};
  std::string rendezvous = {};
  /// Of the agents that have ranks: which one this is, and how many they are.
  int node = 0, nodes = 1;
};
/// End the generation's ranks: SIGTERM, and SIGKILL after the grace period or,
/// with `at_once`, now. To be repeated safely; answered by GenerationEmpty.
struct Stop {
  bool at_once = false;
};

/// Have the ranks save a checkpoint, and go on.
struct Save {};
/// Have every rank write its stack, and say how it is: RankSuspected, kAsked.
struct Inspect {};
/// There is nothing to do; the coordinator is still there.
struct Ping {};

struct Command {
  int generation = 0;
  std::variant<OpenRendezvous, StartGeneration, Stop, Save, Inspect, Ping> body;
};

// Agent to coordinator.

struct AgentReady {
  std::string host;
};
/// How the generation stands here, for what may have been lost on the way.
struct Heartbeat {
  std::vector<int> joined = {};          ///< ranks
  std::vector<RankEnding> endings = {};  ///< of those that have ended
  std::int64_t step = 0;                 ///< furthest that a rank said
  bool empty = true;                     ///< as GenerationEmpty says
};
struct RendezvousOpen {
  std::string endpoint;  ///< "host:port" that all ranks reach
};
struct RankStarted {
  int rank, process;
};
struct RankJoined {
  int rank;
};
struct RankStepped {
  int rank;
  std::int64_t step;
};
/// A rank says nothing for too long, or does so again; or somebody asked.
struct RankSuspected {
  enum class Verdict { kWarned, kHung, kGoesOn, kAsked };
  int rank;
  Verdict verdict;
  std::string text;  ///< for people: section, step, age, state of its process
};
struct RankExited {
  RankEnding ending;
};
/// None of the generation's processes is left; all that this agent had.
struct GenerationEmpty {
  std::vector<RankEnding> endings;
};

struct Report {
  int agent = 0;
  int generation = 0;  ///< 0: of none (AgentReady, and a Heartbeat before any)
  std::variant<AgentReady, Heartbeat, RendezvousOpen, RankStarted, RankJoined,
               RankStepped, RankSuspected, RankExited, GenerationEmpty>
      body;
  /// Of the process that is the agent: grows with each one that takes its
  /// place.
  std::uint64_t incarnation = 0;
};

/// One function of several, to visit a variant with.
template <class... Functions>
struct Overloaded : Functions... {
  using Functions::operator()...;
};
template <class... Functions>
Overloaded(Functions...) -> Overloaded<Functions...>;

}  // namespace catena::launcher
