// catena-bench-exchange [--rounds N]
// Rows that two ranks of one node send each other: plain stores into the
// other's mapped memory, Catena's all_to_all_v, and, under
//   mpirun -n 2 catena-bench-exchange
// MPI_Alltoallv, in turn. Sent data were just written by the sender, and the
// places they go to were last read by the receiver. Prints GB/s that a rank
// sends, as Markdown: median (low-high) of the rounds.

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cstring>
#include <functional>
#include <vector>

#include "bench/timing.h"
#include "bench/two_ranks.h"
#include "parallel/communicator.h"
#include "parallel/shared_memory/segment.h"
#include "parallel/shared_memory/transport.h"

namespace catena::bench {
namespace {

constexpr std::int64_t kSizes[] = {16 << 10,  32 << 10,  64 << 10,
                                   128 << 10, 256 << 10, 512 << 10,
                                   1 << 20,   2 << 20,   4 << 20};
/// What is exchanged between two looks at the clock.
constexpr std::int64_t kBlockBytes = std::int64_t{8} << 20;
constexpr Communicator::Deadline kDeadline(60);

/// Buffers of one way to exchange; each is used once a block.
struct Buffers {
  std::byte* send;
  std::byte* receive;
};

struct Way {
  std::string name;
  Buffers own;
  /// Sends, or receives, this part of the buffers.
  std::function<void(std::int64_t begin, std::int64_t bytes)> exchange;
  std::vector<std::byte> heap = {};  ///< where the buffers are, or elsewhere
  std::vector<double> rates = {};    ///< GB/s that a rank sends, by round

  [[nodiscard]] double middle() const { return median(rates); }
};

/// Memory that both ranks map, beside what the transport has.
class Plain {
 public:
  Plain(Store& store, const std::string& token, int rank) {
    const auto name = [&](int r) {
      return fmt::format("/catena-{}-plain{}", token, r);
    };
    own_ = shared_memory::Segment::create(name(rank), 1, 2 * kBlockBytes);
    own_.reserve(2 * kBlockBytes);
    store.set(fmt::format("plain/{}", rank), "");
    (void)store.get(fmt::format("plain/{}", 1 - rank), kDeadline);
    other_ = shared_memory::Segment::open(name(1 - rank), 1, 2 * kBlockBytes);
    store.set(fmt::format("plain-open/{}", rank), "");
    (void)store.get(fmt::format("plain-open/{}", 1 - rank), kDeadline);
    own_.unlink();
  }
  [[nodiscard]] Buffers own() const {
    return {own_.pool(), own_.pool() + kBlockBytes};
  }
  [[nodiscard]] std::byte* others() const {
    return other_.pool() + kBlockBytes;
  }

 private:
  shared_memory::Segment own_, other_;
};

/// Seconds of the slower rank.
double time_block(Communicator& all, const Way& way, std::int64_t bytes) {
  std::memset(way.own.send, all.rank(), static_cast<std::size_t>(kBlockBytes));
  const auto* const received =
      static_cast<const volatile std::byte*>(way.own.receive);
  for (std::int64_t i = 0; i < kBlockBytes; i += 64) {
    static_cast<void>(received[i]);
  }
  std::array<double, 2> seconds{};
  wait(all.barrier({}));
  const auto me = static_cast<std::size_t>(all.rank());
  seconds[me] = seconds_of([&] {
    for (std::int64_t i = 0; i + bytes <= kBlockBytes; i += bytes) {
      way.exchange(i, bytes);
    }
  });
  wait(all.all_gather_v(
      {}, std::array<Communicator::Part, 2>{
              {{&seconds[0], sizeof(double)}, {&seconds[1], sizeof(double)}}}));
  return std::max(seconds[0], seconds[1]);
}

Way plain_stores(const Plain& plain) {
  const auto exchange = [&plain](std::int64_t begin, std::int64_t bytes) {
    std::memcpy(plain.others() + begin, plain.own().send + begin,
                static_cast<std::size_t>(bytes));
  };
  return {"plain stores", plain.own(), exchange};
}

Way ours(Communicator& all) {
  const auto memory = [&] {
    return static_cast<std::byte*>(all.transport().allocate(kBlockBytes));
  };
  const Buffers own{memory(), memory()};
  const auto other = static_cast<std::size_t>(1 - all.rank());
  const auto exchange = [&all, own, other](std::int64_t begin,
                                           std::int64_t bytes) {
    std::array<Communicator::Part, 2> send, receive;
    send[other] = {own.send + begin, bytes};
    receive[other] = {own.receive + begin, bytes};
    wait(all.all_to_all_v({.phase = Phase::kDispatch}, send, receive));
  };
  return {"all_to_all_v", own, exchange};
}

Way mpis(MpiExchange& mpi) {
  std::vector<std::byte> heap(2 * kBlockBytes);
  const Buffers own{heap.data(), heap.data() + kBlockBytes};
  const auto exchange = [&mpi, own](std::int64_t begin, std::int64_t bytes) {
    mpi.exchange(own.send + begin, bytes, own.receive + begin, bytes);
  };
  return {"MPI_Alltoallv", own, exchange, std::move(heap)};
}

void print_row(std::int64_t bytes, std::vector<Way>& ways) {
  fmt::print("| {} kB ", bytes >> 10);
  for (Way& way : ways) {
    std::sort(way.rates.begin(), way.rates.end());
    fmt::print("| {:.2f} ({:.2f}-{:.2f}) ", way.middle(), way.rates.front(),
               way.rates.back());
  }
  fmt::print("| {:.0f} % |", 100 * ways[1].middle() / ways[0].middle());
  if (ways.size() > 2) {
    fmt::print(" {:.2f} |", ways[1].middle() / ways[2].middle());
  }
  fmt::print("\n");
  std::fflush(stdout);
}

void print_head(const std::vector<Way>& ways) {
  std::string head = "| a peer |", line = "| --- |";
  for (const Way& way : ways) {
    head += " " + way.name + " |";
    line += " --- |";
  }
  fmt::print("{} of plain stores |{}\n{} --- |{}\n", head,
             ways.size() > 2 ? " times MPI |" : "", line,
             ways.size() > 2 ? " --- |" : "");
}

void measure(const TwoRanks& two, int rounds) {
  const auto transport =
      shared_memory::join(two.store, two.rank, 2, {.token = two.token});
  Communicator all(*transport, kDeadline);
  const Plain plain(two.store, two.token, two.rank);
  std::vector<Way> ways = {plain_stores(plain), ours(all)};
  if (two.mpi != nullptr) ways.push_back(mpis(*two.mpi));
  if (two.rank == 0) print_head(ways);
  for (const std::int64_t bytes : kSizes) {
    for (Way& way : ways) way.rates.clear();
    for (int round = -1; round < rounds; ++round) {
      for (Way& way : ways) {
        const double seconds = time_block(all, way, bytes);
        if (round < 0) continue;  // pages and caches
        way.rates.push_back(static_cast<double>(kBlockBytes / bytes * bytes) /
                            seconds / 1e9);
      }
    }
    if (two.rank == 0) print_row(bytes, ways);
  }
}

int run(int argc, char** argv) {
  CLI::App app("exchange of rows between two ranks of a node");
  int rounds = 51;
  app.add_option("--rounds", rounds, "blocks of each kind");
  CLI11_PARSE(app, argc, argv);
  return run_two_ranks([&](const TwoRanks& two) { measure(two, rounds); });
}

}  // namespace
}  // namespace catena::bench

int main(int argc, char** argv) { return catena::bench::run(argc, argv); }
