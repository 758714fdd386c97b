// catena-bench-dispatch [--tokens N] [--hidden N] [--top-k N] [--experts N]
//                       [--rounds N]
// Tokens of two ranks of one node on their way to experts and back, bfloat16,
// one thread a rank, without the experts' own work:
//   whole           plan, packing, exchange, rows by expert; sums by weight,
//                   exchange, sums at home
//   exchange alone  all_to_all_v of the same copies, there and back
// and, under mpirun -n 2, in turn
//   MPI, whole           what does the same by one row for every choice: the
//                        kernels that pack, order and sum, and MPI_Alltoallv
//   MPI, exchange alone  MPI_Alltoallv of those rows that go to the other rank,
//                        there and back
// Prints milliseconds of the slower rank, as Markdown: median (low-high).

#include "parallel/dispatch.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <functional>

#include "bench/timing.h"
#include "bench/two_ranks.h"
#include "parallel/shared_memory/transport.h"
#include "runtime/base/random.h"

namespace catena::bench {
namespace {

constexpr Communicator::Deadline kDeadline(60);

struct Options {
  std::int64_t tokens = 4096, hidden = 1024, top_k = 4, experts = 63;
  int rounds = 51;
};

/// What one rank starts from.
struct Inputs {
  Tensor x, index, weight, out;

  Inputs(Backend& backend, const Options& o, int rank)
      : x(backend, DType::kBFloat16, {o.tokens, o.hidden}),
        index(backend, DType::kInt32, {o.tokens, o.top_k}),
        weight(backend, DType::kFloat32, {o.tokens, o.top_k}),
        out(backend, DType::kBFloat16, {o.tokens, o.hidden}) {
    const auto stream = static_cast<std::uint64_t>(rank);
    auto* bits = static_cast<std::uint16_t*>(x.view().data());
    for (std::int64_t i = 0; i < x.view().elements(); ++i) {
      bits[i] = static_cast<std::uint16_t>(0x3f80 + i % 64);  // about 1
    }
    for (std::int64_t t = 0; t < o.tokens; ++t) {
      const Permutation order(static_cast<std::uint64_t>(o.experts), stream,
                              static_cast<std::uint64_t>(t));
      for (std::int64_t j = 0; j < o.top_k; ++j) {
        index.view().as<std::int32_t>()[t * o.top_k + j] =
            static_cast<std::int32_t>(order.at(static_cast<std::uint64_t>(j)));
        weight.view().as<float>()[t * o.top_k + j] =
            1.0F / static_cast<float>(o.top_k);
      }
    }
  }
};

/// One way to bring rows to the experts and sums of them home.
struct Way {
  std::string name;
  std::function<void()> there_and_back;
  std::vector<double> milliseconds = {};
};

class Ours {
 public:
  Ours(Backend& backend, Ranks& ranks, const Options& o, Inputs& inputs)
      : o_(o),
        in_(inputs),
        ranks_(ranks),
        keep_(backend),
        scratch_(backend),
        wire_(ranks.wire_memory()),
        dispatch_(backend.kernels(), &ranks, {}, &wire_) {}

  void whole() {
    const ArenaScope kept(keep_), used(scratch_), sent(wire_);
    Task task = dispatch_.plan(frames_, in_.x.view(), in_.index.view(),
                               in_.weight.view(), o_.experts, 0, keep_,
                               scratch_, plan_);
    Pipeline pipeline;
    pipeline.run({&task, 1});
    wait(dispatch_.dispatch(plan_, plan_.main, scratch_));
    dispatch_.receive(plan_, plan_.main, keep_, scratch_);
    wait(dispatch_.combine(plan_, plan_.main, plan_.main.received, scratch_));
    dispatch_.add_results(plan_, plan_.main.received, in_.out.view(), false,
                          {});
  }

  /// After whole().
  void exchange() {
    const ArenaScope sent(wire_);
    const DispatchRound& round = plan_.main;
    const auto other = static_cast<std::size_t>(1 - ranks_.rank());
    const auto rows = [&](std::int64_t count) {
      const TensorView view =
          wire_.allocate(DType::kBFloat16, {count, o_.hidden});
      return Communicator::Part{static_cast<std::byte*>(view.data()),
                                view.elements() * 2};
    };
    std::array<Communicator::Part, 2> out{}, in{};
    out[other] = rows(round.runs.out[other]);
    in[other] = rows(round.runs.in[other]);
    wait(ranks_.expert().all_to_all_v({.phase = Phase::kDispatch}, out, in));
    wait(ranks_.expert().all_to_all_v({.phase = Phase::kCombine}, in, out));
  }

 private:
  Options o_;
  Inputs& in_;
  Ranks& ranks_;
  Arena keep_, scratch_, wire_;
  Dispatch dispatch_;
  FrameMemory frames_;
  DispatchPlan plan_;
};

/// One row a choice, by MPI. How many rows come is known beforehand.
class Mpis {
 public:
  Mpis(Backend& backend, Communicator& all, MpiExchange& mpi, const Options& o,
       Inputs& inputs)
      : kernels_(backend.kernels()),
        mpi_(mpi),
        in_(inputs),
        rows_(o.tokens * o.top_k),
        me_(all.rank()),
        row_bytes_(o.hidden * size_bytes(DType::kBFloat16)),
        offsets_(backend, DType::kInt32, {o.experts + 1}),
        place_(backend, DType::kInt32, {o.tokens, o.top_k}),
        entry_(backend, DType::kInt32, {rows_}),
        row_(backend, DType::kInt32, {rows_}),
        packed_(backend, DType::kBFloat16, {rows_, o.hidden}),
        guests_(backend, DType::kBFloat16, {2 * rows_, o.hidden}),
        ordered_(backend, DType::kBFloat16, {2 * rows_, o.hidden}),
        order_(backend, DType::kInt32, {2 * rows_}) {
    pack();
    const std::int64_t first = o.experts - o.experts / 2;  // of rank 0
    split_ = offsets_.view().as<std::int32_t>()[first];
    out_ = me_ == 0 ? rows_ - split_ : split_;
    exchange_counts(all);
    for (std::int64_t i = 0; i < 2 * rows_; ++i) {
      // Runs of an expert's rows, from one home and from the other in turn.
      order_.view().as<std::int32_t>()[i] = static_cast<std::int32_t>(
          (i / 128 % 2 == 0 ? 0 : in_rows_) + i / 256 * 128 + i % 128);
    }
  }

  void exchange() {
    std::byte* const own =
        bytes(packed_) + (me_ == 0 ? split_ * row_bytes_ : 0);
    mpi_.exchange(own, out_ * row_bytes_, bytes(guests_),
                  in_rows_ * row_bytes_);
    mpi_.exchange(bytes(guests_), in_rows_ * row_bytes_, own,
                  out_ * row_bytes_);
  }

  void whole() {
    pack();
    std::byte* const own =
        bytes(packed_) + (me_ == 0 ? split_ * row_bytes_ : 0);
    mpi_.exchange(own, out_ * row_bytes_, bytes(guests_),
                  in_rows_ * row_bytes_);
    const std::int64_t here = rows_ - out_ + in_rows_;
    kernels_(GatherRows{.source = guests_.view(),
                        .index = order_.view().slice(0, 0, here),
                        .out = ordered_.view().slice(0, 0, here)});
    mpi_.exchange(bytes(ordered_), in_rows_ * row_bytes_, own,
                  out_ * row_bytes_);
    kernels_(CombineRows{.source = packed_.view(),
                         .index = place_.view(),
                         .weight = in_.weight.view(),
                         .residual = {},
                         .out = in_.out.view()});
  }

 private:
  static std::byte* bytes(Tensor& tensor) {
    return static_cast<std::byte*>(tensor.view().data());
  }

  void pack() {
    kernels_(GroupRows{.index = in_.index.view(),
                       .map = {},
                       .offsets = offsets_.view(),
                       .place = place_.view(),
                       .entry = entry_.view(),
                       .row = row_.view()});
    kernels_(GatherRows{
        .source = in_.x.view(), .index = row_.view(), .out = packed_.view()});
  }

  void exchange_counts(Communicator& all) {
    std::array<std::int64_t, 2> counts{};
    counts[static_cast<std::size_t>(me_)] = out_;
    wait(all.all_gather_v(
        {}, std::array<Communicator::Part, 2>{
                {{&counts[0], sizeof out_}, {&counts[1], sizeof out_}}}));
    in_rows_ = counts[static_cast<std::size_t>(1 - me_)];
  }

  Kernels& kernels_;
  MpiExchange& mpi_;
  Inputs& in_;
  std::int64_t rows_;
  int me_;
  std::int64_t row_bytes_;
  std::int64_t split_ = 0, out_ = 0, in_rows_ = 0;  ///< rows
  Tensor offsets_, place_, entry_, row_, packed_, guests_, ordered_, order_;
};

/// Milliseconds of the slower rank.
double time_once(Communicator& all, const Way& way) {
  std::array<double, 2> seconds{};
  wait(all.barrier({}));
  seconds[static_cast<std::size_t>(all.rank())] =
      seconds_of(way.there_and_back);
  wait(all.all_gather_v(
      {}, std::array<Communicator::Part, 2>{
              {{&seconds[0], sizeof(double)}, {&seconds[1], sizeof(double)}}}));
  return 1e3 * std::max(seconds[0], seconds[1]);
}

void print(const Options& o, std::vector<Way>& ways) {
  fmt::print(
      "[{}, {}] bfloat16 on each of 2 ranks, {} of {} experts, {} rounds\n\n"
      "| | ms | times the whole | times the exchange |\n"
      "| --- | --- | --- | --- |\n",
      o.tokens, o.hidden, o.top_k, o.experts, o.rounds);
  for (Way& way : ways) {
    std::sort(way.milliseconds.begin(), way.milliseconds.end());
    const double middle = median(way.milliseconds);
    fmt::print("| {} | {:.2f} ({:.2f}-{:.2f}) | {:.2f} | {:.2f} |\n", way.name,
               middle, way.milliseconds.front(), way.milliseconds.back(),
               middle / median(ways[0].milliseconds),
               middle / median(ways[1].milliseconds));
  }
}

void measure(const TwoRanks& two, const Options& o) {
  const auto transport =
      shared_memory::join(two.store, two.rank, 2, {.token = two.token});
  const auto backend = make_cpu_backend(1);
  Ranks ranks(*transport, *backend, make_mesh(2, 2, o.experts),
              Placement::contiguous(o.experts, 2), kDeadline);
  Inputs inputs(*backend, o, two.rank);
  Ours ours(*backend, ranks, o, inputs);
  std::vector<Way> ways;
  ways.push_back({"whole", [&] { ours.whole(); }});
  ways.push_back({"exchange alone", [&] { ours.exchange(); }});
  std::unique_ptr<Mpis> mpis;
  if (two.mpi != nullptr) {
    mpis = std::make_unique<Mpis>(*backend, ranks.world(), *two.mpi, o, inputs);
    ways.push_back({"MPI, whole", [&] { mpis->whole(); }});
    ways.push_back({"MPI, exchange alone", [&] { mpis->exchange(); }});
  }
  for (int round = -1; round < o.rounds; ++round) {
    for (Way& way : ways) {
      const double milliseconds = time_once(ranks.world(), way);
      if (round >= 0) way.milliseconds.push_back(milliseconds);
    }
  }
  if (two.rank == 0) print(o, ways);
}

int run(int argc, char** argv) {
  CLI::App app("tokens to experts and back, between two ranks of a node");
  Options options;
  app.add_option("--tokens", options.tokens, "of each rank");
  app.add_option("--hidden", options.hidden);
  app.add_option("--top-k", options.top_k);
  app.add_option("--experts", options.experts, "over both ranks");
  app.add_option("--rounds", options.rounds, "each way once a round");
  CLI11_PARSE(app, argc, argv);
  return run_two_ranks([&](const TwoRanks& two) { measure(two, options); });
}

}  // namespace
}  // namespace catena::bench

int main(int argc, char** argv) { return catena::bench::run(argc, argv); }
