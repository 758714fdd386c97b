// catena-bench-launcher [--agents N] [--ranks N] [--seconds N] [--lease S]
// What a large job costs its launcher. Agents and ranks are simulated, all in
// one thread; handshakes, frames, MACs, messages and the states of job, agents
// and ranks are those of the program. Bytes go by memory: the kernel's part of
// sockets, timers and files are not in it.
//   assembly   agents prove themselves, ranks are started, and meet
//   running    every agent says each heartbeat how it stands, every rank says
//              each second that it has taken a step; the launcher answers both
//   recovery   a rank is killed: all others are ended, started, and meet again
// Prints as Markdown the seconds of a core that the launcher's part took.

#include <fmt/format.h>
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>

#include "bench/program.h"
#include "bench/simulated_job.h"
#include "bench/timing.h"
#include "runtime/base/error.h"

namespace catena::bench {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

struct Options {
  int agents = 4096, ranks = 8, seconds = 30, lease = 10;
};

/// What the launcher did since it was last asked.
struct Cost {
  double core_seconds = 0;
  std::int64_t heard = 0, said = 0, bytes_in = 0, bytes_out = 0;
};

launcher::JobOptions job_options(const Options& options) {
  launcher::JobOptions result{
      .contact = launcher::contact_rules(seconds(options.lease))};
  int rank = 0;
  for (int agent = 0; agent < options.agents; ++agent) {
    auto& ranks = result.ranks.emplace_back();
    for (int i = 0; i < options.ranks; ++i) ranks.push_back(rank++);
    result.hosts.push_back(fmt::format("node{:04}", agent));
  }
  return result;
}

class Job {
 public:
  explicit Job(const Options& options)
      : launcher_(job_options(options), now_),
        contact_(launcher_.job().options.contact) {
    for (int agent = 0; agent < options.agents; ++agent) {
      agents_.emplace_back(agent, contact_).connect();
    }
  }

  /// Until all ranks of this generation run; the clock goes on a tenth of a
  /// second with every exchange.
  void run_until_met(int generation) {
    const auto& job = launcher_.job();
    for (int i = 0; i < 10000; ++i) {
      if (job.generation == generation &&
          job.phase == launcher::JobPhase::kRunning) {
        return;
      }
      now_ += milliseconds(100);
      exchange();
    }
    fail(ErrorKind::kInternal, "the job does not assemble: {}",
         name_of(job.phase));
  }

  void run_second() {
    ++step_;
    for (SimulatedAgent& agent : agents_) agent.step(step_, now_);
    for (int i = 0; i < 10; ++i) {
      now_ += milliseconds(100);
      exchange();
    }
  }

  void kill_rank() { agents_.back().kill_rank(now_); }

  [[nodiscard]] Cost take_cost() {
    const Cost all{core_seconds_, launcher_.heard(), launcher_.said(),
                   bytes_in_, bytes_out_};
    const Cost before = std::exchange(taken_, all);
    return {all.core_seconds - before.core_seconds, all.heard - before.heard,
            all.said - before.said, all.bytes_in - before.bytes_in,
            all.bytes_out - before.bytes_out};
  }

 private:
  /// Everybody says what is due, and hears what the others said.
  void exchange() {
    std::vector<std::string> said;
    for (SimulatedAgent& agent : agents_) {
      agent.live(now_);
      agent.tick(now_);
      bytes_in_ += static_cast<std::int64_t>(
          said.emplace_back(agent.take_said()).size());
    }
    core_seconds_ += core_seconds_of([&] {
      for (std::size_t agent = 0; agent < said.size(); ++agent) {
        launcher_.receive(static_cast<int>(agent), said[agent], now_);
      }
      launcher_.tick(now_);
    });
    for (std::size_t agent = 0; agent < said.size(); ++agent) {
      const std::string bytes = launcher_.take_said(static_cast<int>(agent));
      bytes_out_ += static_cast<std::int64_t>(bytes.size());
      agents_[agent].receive(bytes, now_);
    }
  }

  launcher::Time now_ = launcher::Time(seconds(1000));
  SimulatedLauncher launcher_;
  launcher::ContactRules contact_;
  std::vector<SimulatedAgent> agents_;
  std::int64_t step_ = 0;
  double core_seconds_ = 0;
  std::int64_t bytes_in_ = 0, bytes_out_ = 0;
  Cost taken_;
};

void print(const char* what, const Cost& cost, const std::string& note) {
  constexpr double kMega = 1e6;
  std::printf("| %s | %.3f | %s | %lld | %lld | %.1f | %.1f |\n", what,
              cost.core_seconds, note.c_str(),
              static_cast<long long>(cost.heard),
              static_cast<long long>(cost.said),
              static_cast<double>(cost.bytes_in) / kMega,
              static_cast<double>(cost.bytes_out) / kMega);
  std::fflush(stdout);
}

void measure(const Options& options) {
  std::printf(
      "%d agents, %d ranks; heartbeats every %.1f s\n\n"
      "| | seconds of a core | | heard | said | MB in | MB out |\n"
      "| --- | ---: | ---: | ---: | ---: | ---: | ---: |\n",
      options.agents, options.agents * options.ranks, options.lease / 10.0);
  Job job(options);
  const double whole = core_seconds_of([&] { job.run_until_met(1); });
  print("assembly", job.take_cost(),
        fmt::format("{:.1f} s with all agents", whole));
  std::vector<double> each;
  Cost last;
  for (int second = 0; second < options.seconds; ++second) {
    job.run_second();
    last = job.take_cost();
    each.push_back(last.core_seconds);
  }
  last.core_seconds = median(each);
  print("a second of running", last,
        fmt::format("most {:.3f} s",
                    *std::max_element(each.begin(), each.end())));
  job.kill_rank();
  const double recovery = core_seconds_of([&] { job.run_until_met(2); });
  print("recovery", job.take_cost(),
        fmt::format("{:.1f} s with all agents", recovery));
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  std::printf("\nmemory, with all agents: %ld MiB\n", usage.ru_maxrss / 1024);
}

}  // namespace

int run(int argc, char** argv) {
  Options options;
  CLI::App app("What a large job costs its launcher.", "catena-bench-launcher");
  app.add_option("--agents", options.agents)->check(CLI::Range(1, 65536));
  app.add_option("--ranks", options.ranks, "of each agent")
      ->check(CLI::Range(1, 64));
  app.add_option("--seconds", options.seconds)->check(CLI::PositiveNumber);
  app.add_option("--lease", options.lease, "in seconds; ten heartbeats")
      ->check(CLI::PositiveNumber);
  CLI11_PARSE(app, argc, argv);
  measure(options);
  return 0;
}

}  // namespace catena::bench
