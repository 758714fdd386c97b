#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "launcher/contract.h"
#include "runtime/base/machine.h"
#include "training/commands/commands.h"
#include "training/data/utf8.h"
#include "training/estimate.h"
#include "training/run_folder.h"
#include "training/sources.h"
#include "training/step_trace.h"

namespace catena {
namespace {

struct Options {
  std::string config;
  std::vector<std::string> assignments;
  int ranks = 1, ranks_here = 0;
  bool resume = false, dry_run = false, needs = false;
  std::string trace;
};

RunFolder find_run(const Options& options, const Config& config) {
  const std::filesystem::path wanted = config.run.folder;
  if (options.resume) {
    if (const auto latest = RunFolder::latest(wanted)) return *latest;
  }
  return options.dry_run ? RunFolder{wanted} : RunFolder::create(wanted);
}

Estimate estimate_of(const Config& config, int ranks) {
  const auto backend = make_cpu_backend(1);
  return estimate(config, resolve_precision(config.train.precision, *backend),
                  config.mesh(ranks));
}

std::int64_t bytes_below(const std::filesystem::path& folder) {
  std::int64_t bytes = 0;
  std::error_code error;
  for (std::filesystem::recursive_directory_iterator at(folder, error), end;
       !error && at != end; at.increment(error)) {
    std::error_code none;
    const auto size = at->file_size(none);
    if (!none) bytes += static_cast<std::int64_t>(size);
  }
  return bytes;
}

/// What checkpoints will take beyond what is there: masters and two moments,
/// all in float32, of those that stay and of the one being written; of a short
/// run, of those that it takes.
std::int64_t checkpoint_bytes(const Config& config, const Estimate& estimate,
                              const std::filesystem::path& run) {
  constexpr std::int64_t kCopies = 3;
  const std::int64_t one =
      kCopies * static_cast<std::int64_t>(sizeof(float)) * estimate.parameters;
  const std::int64_t every = config.checkpoint.every;
  const std::int64_t taken =
      every == 0 ? 1 : (config.train.steps + every - 1) / every;
  const std::int64_t most = std::min(config.checkpoint.keep_last + 1, taken);
  return std::max(one, one * most - bytes_below(run / "checkpoints"));
}

std::vector<std::string> input_files(const Options& options,
                                     const Config& config) {
  std::vector<std::string> files = {options.config};
  for (const std::string& file : {config.model_file, config.data.tokenizer,
                                  config.parallel.placement_file}) {
    if (!file.empty()) files.push_back(file);
  }
  for (const auto* list : {&config.data.train, &config.data.validation}) {
    files.insert(files.end(), list->begin(), list->end());
  }
  return files;
}

/// Launcher and agents tell one another of paths as text: with another
/// character in it, it would be another folder.
void check_paths(const Options& options, const Config& config) {
  std::vector<std::string> paths = input_files(options, config);
  paths.push_back(std::filesystem::absolute(config.run.folder).string());
  for (const std::string& path : paths) {
    if (data::invalid_utf8(path) == std::string::npos) continue;
    fail(ErrorKind::kConfig,
         "{}: is no UTF-8, which `catena launch` needs of paths: rename it, or "
         "choose another",
         path);
  }
}

void add_needs(const Options& options, const Config& config,
               const std::filesystem::path& run, nlohmann::json& json) {
  const Estimate needs = estimate_of(config, options.ranks);
  json["rank_bytes"] = needs.total_bytes();
  json["disk_bytes"] = checkpoint_bytes(config, needs, run);
  json["files"] = input_files(options, config);
  // What the start of training would say of memory, without starting it.
  json["does_not_fit"] = why_too_large(
      needs, config, {.world = options.ranks, .of_machine = options.ranks_here},
      memory_limit_bytes());
}

int begin(const Options& options) {
  Config config;
  config::Schema schema;
  describe(schema, config);
  load(schema, config, options.config, options.assignments);
  const std::string name =
      std::filesystem::path(options.config).stem().string();
  config.run.folder = RunFolder::resolve(config, name).string();
  check_paths(options, config);
  static_cast<void>(config.placements(config.mesh(options.ranks)));
  if (!options.trace.empty()) {
    static_cast<void>(parse_trace(options.trace, config.train.steps));
  }
  const std::filesystem::path run =
      std::filesystem::absolute(find_run(options, config).path)
          .lexically_normal();
  nlohmann::json json = {{"run", run.string()},
                         {"transport", config.parallel.transport},
                         {"does_not_fit", ""}};
  if (options.needs) add_needs(options, config, run, json);
  std::puts(json.dump().c_str());
  return kExitSuccess;
}

}  // namespace

void add_begin_command(CLI::App& app, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      kBeginCommand, "For the launcher: check a configuration, make its run");
  command->group("");  // not listed
  command->add_option("config", options->config, "TOML file")->required();
  command->add_option("--set", options->assignments, "KEY=VALUE");
  command->add_option("--ranks", options->ranks, "How many there will be");
  command->add_flag("--resume", options->resume,
                    "Find the last run of this configuration");
  command->add_flag("--dry-run", options->dry_run, "Make no folder");
  command->add_flag("--needs", options->needs, "What machines must have");
  command->add_option("--ranks-here", options->ranks_here,
                      "With --needs: how many will share this machine");
  command->add_option("--trace", options->trace, "As of train");
  command->callback(
      [options, &action] { action = [options] { return begin(*options); }; });
}

}  // namespace catena
