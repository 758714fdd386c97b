#include <algorithm>
#include <cstdlib>
#include <memory>
#include <optional>

#include "launcher/contract.h"
#include "runtime/base/files.h"
#include "runtime/base/log.h"
#include "runtime/base/machine.h"
#include "training/checkpoint/reader.h"
#include "training/commands/commands.h"
#include "training/control_line.h"
#include "training/member.h"
#include "training/rank_processes.h"
#include "training/rank_start.h"
#include "training/run_start.h"
#include "training/trainer.h"

namespace catena {
namespace {

struct Options {
  std::string config;
  std::vector<std::string> assignments;
  bool resume = false;
  std::string resume_from, init_from;
  std::string record_routing, record_steps, replay_routing;
  std::string dashboard;  ///< its port, which is the launcher's; "": none
  std::string trace;
  RankOptions ranks;
  /// Of a rank that a launcher started: the run's folder; else empty.
  std::string launched_run;
};

RoutingFiles routing_files(const Options& options, const Config& config) {
  RoutingFiles files;
  if (!options.record_routing.empty()) files.record = options.record_routing;
  if (!options.record_steps.empty()) {
    files.steps = parse_steps(options.record_steps,
                              "--record-steps " + options.record_steps);
  }
  if (!options.replay_routing.empty()) files.replay = options.replay_routing;
  if (files.record.has_value() && config.spikes.action == "rewind") {
    fail(
        ErrorKind::kUsage,
        "--record-routing: with spikes.action = \"rewind\" a step may be taken "
        "twice; record with \"skip\" or \"off\"");
  }
  if (files.replay.has_value()) expect_choices(config.model);
  return files;
}

/// Nothing where no steps are to be traced.
std::optional<StepRange> traced_steps(const Options& options,
                                      const Config& config) {
  if (options.trace.empty()) return std::nullopt;
  return parse_trace(options.trace, config.train.steps);
}

/// Makes the trace of a rank whose steps are to be traced, and returns what it
/// does everything through: `transport` itself where none are.
Transport* begin_trace(const Options& options, const Config& config,
                       Transport* transport, std::optional<StepTrace>& trace) {
  const auto steps = traced_steps(options, config);
  if (!steps) return transport;
  Timeline::Owner owner;
  if (transport != nullptr) owner = {transport->rank(), transport->size()};
  return trace.emplace(*steps, owner).watch(transport);
}

void print_next_commands(const RunFolder& run, const Options& options) {
  const std::string folder = run.path.string();
  log::info("");
  log::info("results in {}; next:", folder);
  log::info(
      "  build/catena generate {} --prompt \"Tom has 3 apples and buys "
      "4 more. How many does he have?\"",
      folder);
  log::info("  build/catena train {} --resume --set train.steps=400",
            options.config);
  log::info("  build/catena config explain model.chain");
}

/// The run's folder; `made` where it is new.
RunFolder find_run(const Options& options, const std::filesystem::path& wanted,
                   bool& made) {
  if (!options.launched_run.empty()) {
    return RunFolder::at(options.launched_run);
  }
  if (!options.resume_from.empty()) {
    const auto checkpoint = std::filesystem::absolute(
        std::filesystem::path(options.resume_from) / "");
    return RunFolder::open(
        checkpoint.parent_path().parent_path().parent_path());
  }
  if (options.resume) {
    if (const auto latest = RunFolder::latest(wanted)) return *latest;
  }
  made = true;
  return RunFolder::create(wanted);
}

/// What the run begins with. The run's lock is held: nobody else writes there.
TrainerStart find_start(const Options& options, const RunFolder& run) {
  TrainerStart start;
  if (!options.init_from.empty()) start.weights = options.init_from;
  if (!options.launched_run.empty()) {
    const auto newest = newest_valid_checkpoint(run.checkpoints());
    if (newest.has_value()) start.resume = newest->folder;
  } else if (!options.resume_from.empty()) {
    start.resume = open_checkpoint(options.resume_from).folder;
  } else if (options.resume) {
    const auto newest = newest_checkpoint(run.checkpoints());
    if (newest.has_value()) {
      start.resume = newest->folder;
    } else {
      log::info("resume   no checkpoint in {}: from the beginning",
                run.path.string());
    }
  }
  return start;
}

/// Other ranks write to their logs alone.
void speak_as(int rank) {
  if (rank <= 0) return;
  log::set_quiet(true);
  log::set_prefix(fmt::format("rank {}: ", rank));
}

/// What one rank does from start to end. `transport`: null for the only one.
/// `trace`: empty, or watches it.
int train_rank(const RunStart& run_start, const Options& options,
               const config::Schema& schema, const Config& config,
               Transport* transport, std::optional<StepTrace>& trace) {
  const RunFolder& all = run_start.run;
  const int rank = transport != nullptr ? transport->rank() : 0;
  const RunFolder run = all.of_rank(rank);
  speak_as(rank);
  log::open_file(run.path / "log.txt");
  control_line::say(kSaidJoined);
  if (rank == 0 && !options.dashboard.empty()) {
    const auto shown = std::filesystem::absolute(all.path);
    control_line::say((kSaidRun + shown.string()).c_str());
  }
  control_line::say_section(kSectionLoad);
  if (trace) trace->set_run(run);
  Trainer trainer(schema, config, run, run_start.start, transport,
                  routing_files(options, config), trace ? &*trace : nullptr);
  if (rank == 0) {
    // Else all who look would see how a launcher before ended.
    if (std::getenv(kJobVariable) == nullptr) run.forget_job();
    write_file_atomically(run.config(),
                          schema.toml(false, true, LaunchConfig::kSection));
  }
  const Trainer::Result result = trainer.run();
  if (result.stopped) {
    log::info(
        "stopped on request; go on with: catena train {} --resume-from {}",
        all.config().string(),
        (all.checkpoints() / checkpoint_name(result.steps)).string());
    return kExitPreempted;
  }
  trainer.answer_prompts();
  if (rank == 0) print_next_commands(run, options);
  control_line::say(kSaidDone);
  return kExitSuccess;
}

/// The run's folder, held against other processes. One that was made for a run
/// that could not begin is gone afterwards.
class HeldRun {
 public:
  HeldRun(const Options& options, const Config& config)
      : run_(find_run(options, config.run.folder, made_)), lock_(run_.lock()) {
    if (!lock_.held()) {
      fail(ErrorKind::kUsage,
           "{}: another process is training there; wait for it, or choose "
           "another folder with --set run.folder=...",
           run_.path.string());
    }
  }
  ~HeldRun() {
    std::error_code ignored;
    if (made_ && !std::filesystem::exists(run_.path / "metrics.jsonl")) {
      std::filesystem::remove_all(run_.path, ignored);
    }
  }
  HeldRun(const HeldRun&) = delete;
  HeldRun& operator=(const HeldRun&) = delete;
  [[nodiscard]] RunStart start(const Options& options) const {
    return {run_, find_start(options, run_)};
  }

 private:
  bool made_ = false;
  RunFolder run_;
  FileLock lock_;
};

/// Those of this machine, or the few that its launcher has chosen for a rank.
void deal_out_cores(Config& config, int ranks_here) {
  if (const char* sharers = std::getenv(kSharersVariable)) {
    ranks_here = std::max(1, std::atoi(sharers));
  }
  if (ranks_here == 1 || config.train.threads != 0) return;
  config.train.threads = std::max(1, available_cores() / ranks_here);
}

/// Of a process that is one rank of several.
int train_as_member(Member& member, const Options& options,
                    const config::Schema& schema, Config& config) {
  // First, as all that follows talks through it.
  std::optional<StepTrace> trace;
  Transport& transport =
      *begin_trace(options, config, member.transport.get(), trace);
  speak_as(transport.rank());
  static_cast<void>(config.placements(config.mesh(transport.size())));
  deal_out_cores(config, member.ranks_here);
  std::optional<HeldRun> held;
  const RunStart start = agree_on_start(
      transport, std::chrono::duration<double>(config.parallel.timeout),
      [&] { return held.emplace(options, config).start(options); });
  return train_rank(start, options, schema, config, &transport, trace);
}

/// Of a process that is the only rank, or starts all of them.
int train_here(const RankStart& ranks, const Options& options,
               const config::Schema& schema, Config& config) {
  // Refused before a folder is made.
  static_cast<void>(config.placements(config.mesh(ranks.ranks)));
  deal_out_cores(config, ranks.ranks);
  const HeldRun held(options, config);
  const RunStart start = held.start(options);
  if (ranks.kind == RankStart::Kind::kAlone) {
    std::optional<StepTrace> trace;
    static_cast<void>(begin_trace(options, config, nullptr, trace));
    return train_rank(start, options, schema, config, nullptr, trace);
  }
  const RankProcesses processes{.ranks = ranks.ranks,
                                .wire = ranks.wire,
                                .patience = std::chrono::duration<double>(
                                    std::min(5.0, config.parallel.timeout))};
  return run_rank_processes(processes, [&](Member& member) {
    std::optional<StepTrace> trace;
    Transport* transport =
        begin_trace(options, config, member.transport.get(), trace);
    return train_rank(start, options, schema, config, transport, trace);
  });
}

int train(Options options) {
  if (!options.dashboard.empty() && !control_line::is_open()) {
    fail(ErrorKind::kUsage,
         "{}: the page is served by the program catena: catena train {} {}",
         kDashboardFlag, options.config, kDashboardFlag);
  }
  if (const char* run = std::getenv(kRunVariable)) options.launched_run = run;
  Config config;
  config::Schema schema;
  describe(schema, config);
  load(schema, config, options.config, options.assignments);
  const std::string name =
      std::filesystem::path(options.config).stem().string();
  config.run.folder = RunFolder::resolve(config, name).string();
  config.model_file.clear();  // every key is resolved, and must stay so
  static_cast<void>(routing_files(options, config));
  static_cast<void>(traced_steps(options, config));
  const RankStart ranks =
      plan_ranks(options.ranks, config.parallel.transport,
                 [](const char* variable) { return std::getenv(variable); });
  if (ranks.kind == RankStart::Kind::kAlone ||
      ranks.kind == RankStart::Kind::kForked) {
    return train_here(ranks, options, schema, config);
  }
  speak_as(ranks.rank);
  const std::chrono::duration<double> deadline(config.parallel.timeout);
  return live_as_member([&] { return join(ranks, deadline); },
                        [&](Member& member) {
                          return train_as_member(member, options, schema,
                                                 config);
                        });
}

/// Every key and its default, for --help.
std::string list_keys() {
  Config config;
  config::Schema schema;
  describe(schema, config);
  std::string text = "Keys for the file and for --set, with defaults:\n";
  for (const config::Key& key : schema.keys()) {
    text +=
        fmt::format("  {} = {}{}{}\n      {}\n", key.path, key.default_value,
                    key.unit.empty() ? "" : "  # ", key.unit, key.help);
  }
  return text;
}

void add_rank_options(CLI::App& command, RankOptions& ranks) {
  command
      .add_option("--ranks", ranks.ranks,
                  "Processes to start, which share rows and experts (see "
                  "parallel.expert), and, with train.threads = 0, the cores")
      ->check(CLI::Range(1, 1024));
  command
      .add_option("--rank", ranks.rank,
                  "Of a process that is one rank of several: which, from 0")
      ->envname(kRankVariable)
      ->check(CLI::Range(0, 65535));
  command
      .add_option("--world-size", ranks.world_size, "How many there are in all")
      ->envname(kWorldSizeVariable)
      ->check(CLI::Range(1, 65536));
  command
      .add_option("--rendezvous", ranks.rendezvous,
                  "HOST:PORT at which rank 0 waits for the others: an address "
                  "of its machine that they reach")
      ->envname(kRendezvousVariable);
  command
      .add_option("--token-file", ranks.token_file,
                  "File with the secret that all share, where CATENA_TOKEN "
                  "does not hold it")
      ->envname(kTokenFileVariable);
}

}  // namespace

void add_train_command(CLI::App& app, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("train", "Train on this machine");
  command
      ->add_option("config", options->config,
                   "TOML file; `catena config markdown` lists every key")
      ->required();
  command->add_option("--set", options->assignments,
                      "KEY=VALUE, over what the file says; repeatable");
  add_rank_options(*command, options->ranks);
  CLI::Option* resume = command->add_flag(
      "--resume", options->resume,
      "Go on from the newest checkpoint of this configuration's last run; "
      "from the beginning if there is none");
  CLI::Option* resume_from =
      command
          ->add_option("--resume-from", options->resume_from,
                       "Go on from this checkpoint, RUN/checkpoints/step-N")
          ->excludes(resume);
  command
      ->add_option("--init-from", options->init_from,
                   "Begin at step 0 with the weights of a run, a checkpoint or "
                   "a .safetensors file; with --resume only if there is no "
                   "checkpoint yet")
      ->excludes(resume_from);
  CLI::Option* record = command->add_option(
      "--record-routing", options->record_routing,
      "Write the experts that every token of every step chose to this file, "
      "when the run ends");
  command
      ->add_option("--record-steps", options->record_steps,
                   "Only of the steps A:B")
      ->needs(record);
  command->add_option("--replay-routing", options->replay_routing,
                      "Choose the experts that such a file names; weights "
                      "still come from the scores");
  command->add_flag(
      std::string(kDashboardFlag) + "{0}", options->dashboard,
      "Serve page and /metrics of the run until it ends; =[ADDRESS:]PORT: "
      "there, else on 127.0.0.1, at CATENA_DASHBOARD_PORT or where one is "
      "free");
  command->add_option("--trace", options->trace,
                      "steps=A:B: write what every rank did when in these "
                      "steps to RUN/trace, for ui.perfetto.dev");
  command->footer(
      std::string("Examples:\n"
                  "  catena train configs/quickstart.toml\n"
                  "  catena train configs/quickstart.toml --set train.steps=50 "
                  "--set model.chain.iterations=3\n"
                  "  catena train configs/quickstart.toml --resume --set "
                  "train.steps=400\n"
                  "  catena train configs/quickstart.toml --ranks 2\n"
                  "  catena train configs/quickstart.toml --dashboard\n"
                  "  catena train configs/quickstart.toml --record-routing "
                  "routes.bin --record-steps 1:20\n"
                  "  catena train configs/quickstart.toml --ranks 2 --trace "
                  "steps=20:22\n"
                  "  catena train configs/quickstart.toml --ranks 4 --set "
                  "parallel.transport=gloo\n"
                  "  mpirun -n 4 catena train configs/quickstart.toml\n"
                  "  CATENA_TOKEN=... catena train configs/quickstart.toml "
                  "--rank 1 --world-size 2 --rendezvous 10.0.0.1:29500\n"
                  "  catena train configs/quickstart.toml --init-from "
                  "runs/quickstart\n"
                  "Ctrl-C ends after the step under way and saves a checkpoint "
                  "(exit code 75);\na second Ctrl-C ends at once.\n"
                  "What a key means: catena config explain KEY\n\n") +
      list_keys());
  command->callback(
      [options, &action] { action = [options] { return train(*options); }; });
}

}  // namespace catena
