#include "launcher/commands/trace.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <filesystem>

#include "launcher/commands/parse.h"
#include "launcher/contract.h"
#include "launcher/run_status.h"
#include "launcher/trace_merge.h"
#include "runtime/base/log.h"

namespace catena::launcher {
namespace {

constexpr const char* kMerged = "trace/all.json";

void merge(const std::filesystem::path& run, std::filesystem::path output) {
  if (output.empty()) output = run / kMerged;
  const MergedTrace merged = merge_traces(run, output);
  if (!merged.missing.empty()) {
    log::warning("ranks {} have no trace of these steps",
                 fmt::join(merged.missing, ", "));
  }
  if (merged.left_out > 0) {
    log::warning("{} events were left out: trace fewer steps", merged.left_out);
  }
  if (merged.hosts > 1) {
    log::info("{} hosts: their ranks are as near as the clocks of these hosts",
              merged.hosts);
  }
  fmt::print(
      "{}: {} ranks, steps {} to {}, {} events; ui.perfetto.dev opens "
      "it\n",
      output.string(), merged.ranks, merged.first, merged.last, merged.events);
}

}  // namespace

int trace(const std::vector<std::string>& arguments) {
  CLI::App app("Works on traces of steps.", "catena trace");
  std::string run, output;
  app.require_subcommand(1);
  CLI::App* command = app.add_subcommand(
      "merge", "Make one file of what all ranks of a run did when");
  add_run(*command, run);
  command->add_option("--output", output, "Default: RUN/trace/all.json");
  app.footer(
      "Examples:\n"
      "  catena launch -n 2 configs/quickstart.toml --trace steps=20:22\n"
      "  catena trace merge runs/quickstart");
  if (const auto code = parse_command(app, arguments)) return *code;
  merge(find_run(run), output);
  return kExitSuccess;
}

}  // namespace catena::launcher
