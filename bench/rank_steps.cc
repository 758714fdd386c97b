#include "bench/rank_steps.h"

#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <numeric>
#include <thread>

#include "bench/random_rows.h"
#include "bench/slow_wire.h"
#include "bench/timing.h"
#include "parallel/simulated/transport.h"
#include "parallel/tcp/handshake.h"
#include "runtime/base/files.h"
#include "training/rank_processes.h"
#include "training/sources.h"
#include "training/timeline.h"

namespace catena::bench {
namespace {

namespace fs = std::filesystem;

constexpr Communicator::Deadline kDeadline(600);

/// What the step just done took of kernels and wires, added to `result`, as a
/// part of `steps` of them.
void count(Backend& backend, Ranks* ranks, int steps, Steps& result) {
  for (const KernelCount& count : backend.kernels()) {
    KernelTable::Entry& entry = result.kernels.kernels[std::string(count.name)];
    entry.cost.flops += count.cost.flops;
    entry.cost.read_bytes += count.cost.read_bytes;
    entry.cost.write_bytes += count.cost.write_bytes;
    entry.seconds += count.seconds;
  }
  if (ranks == nullptr) return;
  const PhaseTraffic total = ranks->take_traffic().total();
  result.sent_bytes += static_cast<double>(total.sent_bytes) / steps;
  result.exposed_seconds += total.exposed_seconds / steps;
}

/// `timeline`: null, or takes the last step.
std::vector<Steps> run_steps(std::span<const Config> layouts,
                             const StepOptions& options, Backend& backend,
                             Ranks* ranks, Timeline* timeline) {
  const Config& config = layouts.front();
  const Precision precision =
      resolve_precision(config.train.precision, backend);
  Model model(backend, config.model, precision, ranks);
  model.parameters().initialize(0);
  Optimizer optimizer(model.parameters(), config.optimizer, ranks);
  RandomRows rows(config, options.replay_routing);
  std::vector<std::unique_ptr<Step>> steps;
  for (const Config& layout : layouts) {
    steps.push_back(std::make_unique<Step>(model, optimizer, layout));
    if (rows.replays()) steps.back()->set_observer(&rows);
  }
  std::vector<Steps> results(layouts.size());
  StepReport report;
  constexpr int kWarmup = 2;
  for (int number = 1; number <= kWarmup + options.steps; ++number) {
    const data::Batch batch = rows.next(number);
    for (std::size_t turn = 0; turn < layouts.size(); ++turn) {
      const std::size_t of =
          (turn + static_cast<std::size_t>(number)) % layouts.size();
      if (ranks != nullptr) wait(ranks->world().barrier({}));
      backend.kernels().reset_counts();
      if (ranks != nullptr) (void)ranks->take_traffic();
      if (timeline != nullptr) {
        timeline->clear();
        timeline->begin_step(number);
      }
      const double seconds = seconds_of([&] {
        steps[of]->compute(batch, number, report);
        steps[of]->apply(report);
      });
      if (timeline != nullptr) timeline->end_step();
      if (number <= kWarmup) continue;
      Steps& result = results[of];
      result.seconds.push_back(seconds);
      result.tokens += static_cast<double>(batch.tokens.size()) / options.steps;
      count(backend, ranks, options.steps, result);
    }
  }
  return results;
}

/// What two ranks that send to each other at once, and do nothing else, find.
Link measure_link(Transport& transport, std::int64_t bytes) {
  const int other = 1 - transport.rank();
  const std::uint64_t tag = packed(Collective::kAllToAllV, {});
  const auto middle_of = [&](std::int64_t size, int times) {
    std::vector<char> out(static_cast<std::size_t>(size)), in(out.size());
    std::vector<double> seconds;
    for (int i = 0; i < times; ++i) {
      seconds.push_back(seconds_of([&] {
        std::int64_t open = 0;
        transport.send(other, 0, out.data(), size, tag, open);
        transport.receive(other, 0, in.data(), size, tag, open);
        while (open > 0) {
          transport.progress();
          if (!transport.idle()) std::this_thread::yield();
        }
      }));
    }
    return median(seconds);
  };
  const double latency = middle_of(8, 51);
  return {.bytes_per_second =
              static_cast<double>(bytes) / (middle_of(bytes, 5) - latency),
          .latency_seconds = latency};
}

/// About so much is exchanged to measure a wire.
constexpr std::int64_t kRawBytes = 8'000'000;

/// One rank's life.
class Rank {
 public:
  Rank(std::span<const Config> layouts, const StepOptions& options,
       const RankWire& wire, const std::string& timeline)
      : layouts_(layouts),
        options_(options),
        wire_(wire),
        timeline_file_(timeline) {}

  std::vector<Steps> run(Member& member, int threads,
                         const std::string& token) {
    Transport* transport = member.transport.get();
    Member far;  // must outlive what borrows its transport
    if (wire_.real != nullptr) {
      far = join_over_wire(*transport, token);
      transport = far.transport.get();
    }
    std::optional<Link> found;
    if (wire_.real != nullptr) found = measure_link(*transport, kRawBytes);
    std::unique_ptr<Transport> slow;
    if (wire_.simulated != nullptr) {
      slow = simulated::make_transport(*transport, *wire_.simulated);
      transport = slow.get();
    }
    std::vector<Steps> results = run_on(*transport, threads);
    for (Steps& steps : results) steps.wire = found;
    return results;
  }

 private:
  Member join_over_wire(const Transport& here, const std::string& token) {
    wire_.real->enter(here.rank());
    return join(RankStart{.kind = RankStart::Kind::kMeeting,
                          .wire = Wire::kGloo,
                          .rank = here.rank(),
                          .ranks = here.size(),
                          .store = SlowWire::meeting_point(),
                          .token = token,
                          .node = std::to_string(here.rank())},
                kDeadline);
  }

  std::vector<Steps> run_on(Transport& plain, int threads) {
    const Config& config = layouts_.front();
    Timeline timeline;
    const bool watched = !timeline_file_.empty() && plain.rank() == 0;
    auto processor = make_cpu_backend(threads);
    if (watched) processor = timeline.watch(std::move(processor));
    Backend& backend = *processor;
    const auto heard = watched ? timeline.watch(plain) : nullptr;
    Transport& transport = heard ? *heard : plain;
    const Mesh mesh = config.mesh(plain.size());
    const auto group =
        plain.size() > 1
            ? std::make_unique<Ranks>(
                  transport, backend, mesh, config.placements(mesh), kDeadline,
                  config.dispatch_rules(config.micro_rows(plain.size())))
            : nullptr;
    std::vector<Steps> results =
        run_steps(layouts_, options_, backend, group.get(),
                  watched ? &timeline : nullptr);
    if (watched) {
      timeline.write(timeline_file_, {.rank = 0, .ranks = plain.size()});
    }
    if (group) wait(group->world().barrier({}));
    return results;
  }

  std::span<const Config> layouts_;
  const StepOptions& options_;
  const RankWire& wire_;
  const std::string& timeline_file_;
};

void save(const Steps& steps, const fs::path& folder) {
  save(steps.kernels, folder / "kernels.json");
  nlohmann::json rest{{"seconds", steps.seconds},
                      {"tokens", steps.tokens},
                      {"sent_bytes", steps.sent_bytes},
                      {"exposed_seconds", steps.exposed_seconds}};
  if (steps.wire) {
    rest["wire"] = {steps.wire->bytes_per_second, steps.wire->latency_seconds};
  }
  write_file_atomically(folder / "rest.json", rest.dump());
}

Steps load_steps(const fs::path& folder) {
  const auto json = nlohmann::json::parse(read_file(folder / "rest.json"));
  Steps steps;
  steps.seconds = json.at("seconds").get<std::vector<double>>();
  steps.kernels = *load_kernel_table(folder / "kernels.json");
  steps.tokens = json.at("tokens");
  steps.sent_bytes = json.at("sent_bytes");
  steps.exposed_seconds = json.at("exposed_seconds");
  if (json.contains("wire")) {
    steps.wire = Link{.bytes_per_second = json["wire"][0],
                      .latency_seconds = json["wire"][1]};
  }
  return steps;
}

}  // namespace

double Steps::middle() const { return median(seconds); }
double Steps::mean() const {
  return std::accumulate(seconds.begin(), seconds.end(), 0.0) /
         static_cast<double>(seconds.size());
}

Config load_config(const StepOptions& options,
                   const std::vector<std::string>& more) {
  Config config;
  config::Schema schema;
  describe(schema, config);
  std::vector<std::string> all = options.assignments;
  if (options.replay_routing.empty()) {
    all.push_back("model.router.force_balanced=true");
  }
  all.insert(all.end(), more.begin(), more.end());
  load(schema, config, options.config, all);
  return config;
}

std::vector<std::vector<Steps>> measure_in_turn(std::span<const Config> layouts,
                                                const StepOptions& options,
                                                int ranks, int threads,
                                                const RankWire& wire,
                                                const std::string& timeline) {
  const fs::path folder = fs::temp_directory_path() /
                          fmt::format("catena-bench-ranks-{}", ::getpid());
  const auto folder_of = [&](std::size_t layout, int rank) {
    return folder / fmt::format("{}-{}", layout, rank);
  };
  for (int rank = 0; rank < ranks; ++rank) {
    for (std::size_t layout = 0; layout < layouts.size(); ++layout) {
      fs::create_directories(folder_of(layout, rank));
    }
  }
  std::fflush(stdout);  // or every process would print it
  const std::string token = tcp::random_token();
  const int code = run_rank_processes({.ranks = ranks}, [&](Member& member) {
    Rank rank(layouts, options, wire, timeline);
    const std::vector<Steps> results = rank.run(member, threads, token);
    for (std::size_t layout = 0; layout < layouts.size(); ++layout) {
      save(results[layout], folder_of(layout, member.transport->rank()));
    }
    return 0;
  });
  std::vector<std::vector<Steps>> results(layouts.size());
  for (std::size_t layout = 0; code == 0 && layout < layouts.size(); ++layout) {
    for (int rank = 0; rank < ranks; ++rank) {
      results[layout].push_back(load_steps(folder_of(layout, rank)));
    }
  }
  fs::remove_all(folder);
  if (code != 0) throw std::runtime_error("a rank failed");
  return results;
}

std::vector<Steps> measure(const Config& config, const StepOptions& options,
                           int ranks, int threads, const RankWire& wire,
                           const std::string& timeline) {
  return measure_in_turn({&config, 1}, options, ranks, threads, wire, timeline)
      .front();
}

}  // namespace catena::bench
