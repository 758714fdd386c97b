#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "launcher/engines.h"
#include "launcher/job_state.h"
#include "launcher/local_agent.h"
#include "launcher/monitor/monitor.h"
#include "launcher/preflight/judgement.h"
#include "launcher/rank_layout.h"
#include "launcher/run_files.h"

namespace catena::launcher {

/// What `catena launch` was asked for.
struct LaunchRequest {
  std::string config;
  std::vector<std::string> assignments = {};  ///< KEY=VALUE of --set
  std::string init_from = {};
  std::string trace = {};  ///< as of `catena train`; "": nothing
  int ranks = 1;
  bool resume = false, dry_run = false, json = false;
  int max_restarts = 3;
  bool dashboard = true;
  MonitorPlace dashboard_at = {};
  Duration grace = std::chrono::seconds(30);
  Duration start_timeout = std::chrono::seconds(600);
  Duration section_timeout = {};  ///< 0: learned
  Duration time_limit = {};       ///< 0: none
  /// Agents are processes of their own: so many on this machine, or one on each
  /// of these hosts. Neither, and for kMpi: one within the launcher.
  Engine engine = Engine::kLocal;
  int agents = 0;
  std::vector<Host> hosts = {};
  /// How many of the agents are enough to go on with; 0: all.
  int least_agents = 0;
  Duration rejoin = std::chrono::seconds(30);  ///< see JobOptions
  std::vector<std::string> environment = {};   ///< NAME=VALUE, of every rank
  Bind bind = Bind::kNone;
  std::string address = {};  ///< where they find the launcher; "": chosen
  /// Between agents and launcher; none: where that is no loopback address.
  std::optional<bool> tls = {};
  Duration lease = std::chrono::seconds(10);
  /// Machines are looked at before the first generation; with exclude_slow the
  /// job does without those that are slow or bad. Spare ones take their place.
  bool preflight = true, exclude_slow = false;
  Duration probe_time = std::chrono::seconds(30);
  std::vector<Host> spare_hosts = {};
};

/// Who runs where, and how.
struct JobPlan {
  std::string job;  ///< random letters and digits
  std::filesystem::path run, program;
  std::vector<std::string> arguments;  ///< of every rank
  std::string host;                    ///< the launcher's
  int ranks = 1;
  Engine engine = Engine::kLocal;
  RankLayout layout = {};
  Bind bind = Bind::kNone;
  JobNeeds needs = {};  ///< empty without preflight and dry_run
  /// With dry_run, of ranks that will run on this machine: why not; else "".
  std::string does_not_fit;
  std::string dashboard = {};  ///< its address; "": there is none
};

/// Has the trainer check the configuration and make or find the run's folder.
/// What is wrong with it is said on standard error by the trainer itself.
/// Returns the trainer's exit code; `plan` is complete if that is 0.
/// Throws: Usage as lay_ranks(); Unsupported where the trainer is missing;
/// Internal.
[[nodiscard]] int make_plan(const LaunchRequest& request, JobPlan& plan);

/// A table for people, and one JSON object.
[[nodiscard]] std::string plan_text(const JobPlan& plan);
[[nodiscard]] std::string plan_json(const JobPlan& plan);

/// RUN/job.json, what is known of a job now or at its end: schema, job, run,
/// state, generation, exit_code, first_failure (null: none), restarts (each
/// with its cause), rank_states, dashboard (null: none), last_step,
/// checkpoint_step, seconds, control, version. A rank waits, starts (it has not
/// met the others yet), is running, or has ended: failed, lost (because another
/// did), stopped, done. `ranks` is how many there are now. `control` says what
/// the launcher did not listen to: connections it turned away, by reason, and
/// messages of other generations.
[[nodiscard]] std::string result_json(
    const JobPlan& plan, const JobState& state, double seconds,
    const std::map<std::string, std::int64_t>& rejected);

/// 64 hexadecimal digits of random bits from the operating system.
[[nodiscard]] std::string random_secret();

}  // namespace catena::launcher
