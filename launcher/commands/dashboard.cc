#include "launcher/commands/dashboard.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>
#include <filesystem>

#include "launcher/commands/parse.h"
#include "launcher/contract.h"
#include "launcher/monitor/monitor.h"
#include "runtime/base/error.h"

namespace catena::launcher {
namespace {

namespace fs = std::filesystem;

constexpr const char* kFooter =
    "Examples:\n"
    "  catena dashboard runs/quickstart\n"
    "  catena dashboard runs/quickstart --port 8080\n"
    "From another machine: ssh -L 8080:127.0.0.1:PORT HOST, and then\n"
    "http://127.0.0.1:8080/. Ctrl-C ends it.";

/// Serves until a signal comes.
void serve(const fs::path& run, const MonitorPlace& place) {
  sigset_t signals;
  ::sigemptyset(&signals);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    ::sigaddset(&signals, signal);
  }
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  const Monitor monitor(run, place);
  fmt::print("{}\n", monitor.address());
  std::fflush(stdout);
  int signal = 0;
  ::sigwait(&signals, &signal);
}

}  // namespace

int dashboard(const std::vector<std::string>& arguments) {
  CLI::App app("Shows a run, under way or finished, in a browser.",
               "catena dashboard");
  std::string run;
  MonitorPlace place;
  app.add_option("run", run, "Folder of the run")->required();
  app.add_option("--port", place.port, "0: one that is free")
      ->envname("CATENA_DASHBOARD_PORT")
      ->check(CLI::Range(0, 65535))
      ->capture_default_str();
  app.add_option("--address", place.address,
                 "Numeric, of this machine; 0.0.0.0: all it has, so that "
                 "whoever reaches it sees the run")
      ->envname("CATENA_DASHBOARD_ADDRESS")
      ->capture_default_str();
  app.footer(kFooter);
  if (const auto code = parse_command(app, arguments)) return *code;
  if (!fs::exists(fs::path(run) / "config.toml") &&
      !fs::exists(fs::path(run) / "job.json")) {
    fail(ErrorKind::kUsage,
         "{}: no run is there: it has no config.toml; name the folder that "
         "`catena train` or `catena launch` said",
         run);
  }
  serve(run, place);
  return kExitSuccess;
}

}  // namespace catena::launcher
