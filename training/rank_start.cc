#include "training/rank_start.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cstdlib>
#include <cstring>

#include "launcher/contract.h"
#include "parallel/gloo/transport.h"
#include "parallel/mpi/transport.h"
#include "parallel/tcp/handshake.h"
#include "runtime/base/error.h"
#include "runtime/base/files.h"

namespace catena {
namespace {

/// Processes that mpirun or srun started: 0 where neither did, -1 where their
/// number is not said.
int mpi_processes(const Environment& environment) {
  const auto number = [&](const char* name) {
    const char* text = environment(name);
    return text == nullptr ? 0 : std::atoi(text);
  };
  if (const int open_mpi = number("OMPI_COMM_WORLD_SIZE"); open_mpi > 0) {
    return open_mpi;
  }
  if (environment("PMIX_RANK") == nullptr) return 0;
  const int tasks = number("SLURM_NTASKS");
  return tasks > 0 ? tasks : -1;
}

std::string read_token(const RankOptions& options,
                       const Environment& environment) {
  const char* said = environment(kTokenVariable);
  std::string token = said != nullptr ? said : "";
  if (!options.token_file.empty()) token = read_file(options.token_file);
  const auto end = token.find_last_not_of(" \t\r\n");
  token.resize(end == std::string::npos ? 0 : end + 1);
  if (token.empty()) {
    fail(ErrorKind::kUsage,
         "ranks that are started one by one share a secret: set {}, or name a "
         "file with {} (--token-file); `openssl rand -hex 16` makes one",
         kTokenVariable, kTokenFileVariable);
  }
  if (token.size() < tcp::Secret::kLeastBytes) {
    fail(ErrorKind::kConfig,
         "{}: a token of {} bytes can be guessed; give {} or more, such as "
         "from `openssl rand -hex 16`",
         options.token_file.empty() ? kTokenVariable
                                    : options.token_file.c_str(),
         token.size(), tcp::Secret::kLeastBytes);
  }
  return token;
}

/// Not a number, or none that fits: -1.
int number_of(const char* text) {
  int number = -1;
  const char* end = text + std::strlen(text);
  const auto [at, error] = std::from_chars(text, end, number);
  return error == std::errc() && at == end ? number : -1;
}

/// What others tell the processes that they start: which one it is of how many.
/// Slurm says how many tasks a job has to a job's script, too, which is none.
struct Starter {
  const char *rank, *size;
};
constexpr std::array<Starter, 4> kStarters = {
    {{"RANK", "WORLD_SIZE"},
     {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"},
     {"PMI_RANK", "PMI_SIZE"},
     {"SLURM_PROCID", "SLURM_STEP_NUM_TASKS"}}};

int take(const Environment& environment, const char* name, int least) {
  const int number = number_of(environment(name));
  if (number >= least) return number;
  fail(ErrorKind::kConfig,
       "{} is \"{}\" and no number from {} on: unset it, or say with {} and {} "
       "which rank this is",
       name, environment(name), least, kRankVariable, kWorldSizeVariable);
}

/// As "HOST:PORT"; "" where it is not said.
std::string master_of(const Environment& environment) {
  const char* host = environment("MASTER_ADDR");
  const char* port = environment("MASTER_PORT");
  if (host == nullptr || port == nullptr) return "";
  const bool colons = std::strchr(host, ':') != nullptr;
  return fmt::format("{}{}{}:{}", colons ? "[" : "", host, colons ? "]" : "",
                     port);
}

/// `options`, and what the first starter says that has said all, where neither
/// flags nor Catena's own variables name a rank.
RankOptions with_starter(RankOptions options, const Environment& environment) {
  const char* index = environment("JOB_COMPLETION_INDEX");
  if (options.rank < 0 && options.world_size > 0 && index != nullptr) {
    options.rank = take(environment, "JOB_COMPLETION_INDEX", 0);
  }
  if (options.rank >= 0 || options.world_size > 0) return options;
  for (const Starter& starter : kStarters) {
    if (environment(starter.rank) == nullptr ||
        environment(starter.size) == nullptr) {
      continue;
    }
    const int size = take(environment, starter.size, 1);
    if (size == 1) return options;
    options.rank = take(environment, starter.rank, 0);
    options.world_size = size;
    if (options.rendezvous.empty()) options.rendezvous = master_of(environment);
    return options;
  }
  return options;
}

RankStart by_mpi(const RankOptions& options, int processes) {
  if (processes == 0) {
    fail(ErrorKind::kUsage,
         "parallel.transport = \"mpi\", but neither mpirun nor srun started "
         "this process: mpirun -n 4 catena train ...");
  }
  if (options.ranks > 0 && processes > 0 && options.ranks != processes) {
    fail(ErrorKind::kUsage,
         "--ranks {}, but {} processes were started, each of which is one "
         "rank: leave --ranks out",
         options.ranks, processes);
  }
  mpi::require();
  return {.kind = RankStart::Kind::kMpi,
          .wire = Wire::kMpi,
          .rank = -1,
          .ranks = -1};
}

bool is_alnum(unsigned char c) { return std::isalnum(c) != 0; }

RankStart by_meeting(const RankOptions& options, Wire wire,
                     const Environment& environment) {
  const auto need = [](bool said, const char* variable, const char* flag) {
    if (said) return;
    fail(ErrorKind::kUsage,
         "a rank that is started by itself needs to be told {} ({})", variable,
         flag);
  };
  need(options.rank >= 0, kRankVariable, "--rank");
  need(options.world_size > 0, kWorldSizeVariable, "--world-size");
  need(!options.rendezvous.empty(), kRendezvousVariable, "--rendezvous");
  if (options.rank >= options.world_size) {
    fail(ErrorKind::kUsage, "{} is {}, but ranks go from 0 to {}: {} is {}",
         kRankVariable, options.rank, options.world_size - 1,
         kWorldSizeVariable, options.world_size);
  }
  if (options.ranks > 0 && options.ranks != options.world_size) {
    fail(ErrorKind::kUsage,
         "--ranks {}, but {} is {}: this process is one of them; leave --ranks "
         "out",
         options.ranks, kWorldSizeVariable, options.world_size);
  }
  RankStart start{.kind = RankStart::Kind::kMeeting,
                  .wire = wire,
                  .rank = options.rank,
                  .ranks = options.world_size,
                  .token = read_token(options, environment)};
  try {
    start.store = tcp::parse_endpoint(options.rendezvous);
  } catch (const Error& error) {
    throw Error(error.kind(),
                fmt::format("{}: {}", kRendezvousVariable, error.what()));
  }
  if (const char* job = environment(kJobVariable);
      job != nullptr && std::all_of(job, job + std::strlen(job), is_alnum)) {
    start.job = job;
  }
  if (const char* node = environment(kNodeVariable)) start.node = node;
  if (const char* listener = environment(kRendezvousFdVariable);
      listener != nullptr && start.rank == 0) {
    start.listener = std::atoi(listener);
  }
  return start;
}

}  // namespace

RankStart plan_ranks(const RankOptions& said, const std::string& transport,
                     const Environment& environment) {
  const int processes = mpi_processes(environment);
  const bool automatic = transport == "auto";
  if (transport == "mpi" || (automatic && (processes > 1 || processes < 0))) {
    return by_mpi(said, processes);
  }
  const RankOptions options = with_starter(said, environment);
  const bool told = options.rank >= 0 || options.world_size > 0 ||
                    !options.rendezvous.empty();
  const bool gloo = transport == "gloo" || (automatic && told);
  const Wire wire = gloo ? Wire::kGloo : Wire::kSharedMemory;
  if (told) {
    if (gloo) gloo::require();
    return by_meeting(options, wire, environment);
  }
  if (processes > 1) {
    fail(ErrorKind::kUsage,
         "{} processes were started, but parallel.transport = \"{}\" does not "
         "join them by itself: leave it at \"auto\", or set {}, {} and {}",
         processes, transport, kRankVariable, kWorldSizeVariable,
         kRendezvousVariable);
  }
  if (options.ranks <= 1) return {};
  if (gloo) gloo::require();
  return {
      .kind = RankStart::Kind::kForked, .wire = wire, .ranks = options.ranks};
}

}  // namespace catena
