#include "launcher/commands/launch.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>

#include "launcher/commands/parse.h"
#include "launcher/contract.h"
#include "launcher/job_plan.h"
#include "launcher/local_job.h"
#include "runtime/base/log.h"

namespace catena::launcher {
namespace {

constexpr int kMostRanks = 1024;
constexpr double kYearSeconds = 365 * 24 * 3600.0;

struct Options {
  LaunchRequest request;
  std::string engine = "auto";
  double grace = 30, start_timeout = 600, section_timeout = 0;
};

Duration from_seconds(double seconds) {
  return std::chrono::ceil<Duration>(std::chrono::duration<double>(seconds));
}

void add_training(CLI::App& app, LaunchRequest& request) {
  app.add_option("config", request.config,
                 "TOML file; `catena config markdown` lists every key")
      ->required();
  app.add_option("--set", request.assignments,
                 "KEY=VALUE, over what the file says; repeatable")
      ->allow_extra_args(false);
  app.add_flag("--resume", request.resume,
               "Go on with this configuration's last run, from its newest "
               "valid checkpoint");
  app.add_option("--init-from", request.init_from,
                 "Begin with the weights of a run, a checkpoint or a "
                 ".safetensors file, as long as there is no checkpoint");
}

void add_launching(CLI::App& app, Options& options) {
  LaunchRequest& request = options.request;
  app.add_option("-n,--ranks", request.ranks, "Processes to start")
      ->envname("CATENA_RANKS")
      ->check(CLI::Range(1, kMostRanks));
  app.add_option("--engine", options.engine,
                 "How ranks are started: local (this machine); auto is that")
      ->envname("CATENA_ENGINE")
      ->check(CLI::IsMember({"auto", "local"}));
  app.add_option("--max-restarts", request.max_restarts,
                 "How often the ranks are started again after a failure, from "
                 "the newest checkpoint; three starts in a row without a new "
                 "one end the job (93)")
      ->envname("CATENA_MAX_RESTARTS")
      ->check(CLI::Range(0, 1000000))
      ->capture_default_str();
  app.add_option("--grace-period", options.grace,
                 "Seconds between SIGTERM and SIGKILL, for every rank")
      ->envname("CATENA_GRACE_PERIOD")
      ->check(CLI::Range(0.0, kYearSeconds))
      ->capture_default_str();
  app.add_option("--start-timeout", options.start_timeout,
                 "Seconds for all ranks to meet")
      ->envname("CATENA_START_TIMEOUT")
      ->check(CLI::Range(0.1, kYearSeconds))
      ->capture_default_str();
  app.add_option("--section-timeout", options.section_timeout,
                 "Seconds in which a rank must come further in what it does; "
                 "then it is warned of, and after as many more it is ended as "
                 "hung. 0: five times the longest seen, 30 at least")
      ->envname("CATENA_SECTION_TIMEOUT")
      ->check(CLI::Range(0.0, kYearSeconds))
      ->capture_default_str();
  app.add_flag("!--no-dashboard", request.dashboard,
               "Serve no dashboard and no /metrics while the job runs")
      ->envname("CATENA_DASHBOARD");
  app.add_option("--dashboard-port", request.dashboard_port,
                 "Port of the dashboard, on 127.0.0.1; 0: one that is free")
      ->envname("CATENA_DASHBOARD_PORT")
      ->check(CLI::Range(0, 65535))
      ->capture_default_str();
  app.add_flag("--dry-run", request.dry_run,
               "Print which ranks would run where, and whether they fit");
  app.add_flag("--json", request.json, "With --dry-run: as one JSON object");
}

constexpr const char* kFooter =
    "Examples:\n"
    "  catena launch -n 4 configs/quickstart.toml\n"
    "  catena launch -n 4 configs/quickstart.toml --resume --max-restarts 10\n"
    "  catena launch -n 4 configs/quickstart.toml --dry-run --json\n"
    "Ctrl-C saves a checkpoint and ends (75); a second one ends at once.";

int carry_out(const Options& options) {
  LaunchRequest request = options.request;
  request.grace = from_seconds(options.grace);
  request.start_timeout = from_seconds(options.start_timeout);
  request.section_timeout = from_seconds(options.section_timeout);
  JobPlan plan;
  if (const int code = make_plan(request, plan); code != kExitSuccess) {
    return code;
  }
  if (request.dry_run) {
    const std::string text = request.json ? plan_json(plan) : plan_text(plan);
    std::fputs(text.c_str(), stdout);
    return plan.does_not_fit.empty() ? kExitSuccess : kExitDoesNotFit;
  }
  log::set_prefix("launch: ");
  return run_local_job(plan, request);
}

}  // namespace

int launch(const std::vector<std::string>& arguments) {
  CLI::App app("Trains by several ranks: starts, watches and restarts them.",
               "catena launch");
  Options options;
  add_training(app, options.request);
  add_launching(app, options);
  app.footer(kFooter);
  if (const auto code = parse_command(app, arguments)) return *code;
  return carry_out(options);
}

}  // namespace catena::launcher
