// Whatever the routing, a rank takes the memory that was planned, and nothing
// more once it has it.

#include <gtest/gtest.h>
#include <unistd.h>

#include "layers/model.h"
#include "parallel/local/transport.h"
#include "runtime/base/files.h"
#include "tests/layers/batches.h"
#include "training/estimate.h"

namespace catena {
namespace {

enum class Routes { kFirst, kLast, kSpread, kOwn };

/// Sends all tokens to the same experts, or each token to all ranks in turn.
class ForcedRoutes : public Observer {
 public:
  ForcedRoutes(Backend& backend, const ModelConfig& model, Routes routes,
               std::int64_t tokens, int rank, int ranks) {
    const std::int64_t k = model.chain.top_k,
                       experts = model.chain.routed_experts;
    std::vector<double> values;
    for (std::int64_t t = 0; t < tokens; ++t) {
      for (std::int64_t j = 0; j < k; ++j) {
        switch (routes) {
          case Routes::kFirst:
            values.push_back(static_cast<double>(j));
            break;
          case Routes::kLast:
            values.push_back(static_cast<double>(experts - 1 - j));
            break;
          case Routes::kSpread:
            values.push_back(
                static_cast<double>((t + j * experts / k) % experts));
            break;
          case Routes::kOwn:
            values.push_back(
                static_cast<double>((rank * experts / ranks + j) % experts));
            break;
        }
      }
    }
    routes_ = Tensor(backend, DType::kInt32, {tokens, k});
    write_values(backend, routes_.view(), values);
  }
  TensorView forced_routes(const Chunk& chunk, std::int64_t,
                           std::int64_t) override {
    return routes_.view().slice(0, 0, chunk.tokens);
  }

 private:
  Tensor routes_;
};

struct Case {
  int world, expert;
  std::int64_t chunks;
  double budget;
  const char* recompute = "none";
  DType dtype = DType::kFloat32;
  const char* wire = "auto";
  bool replicas = false;
  std::int64_t node = 0;  ///< ranks of a node, crossed to once
};

/// Over three ranks, of which the first holds least.
constexpr const char* kReplicas = R"(ranks = 3
experts = [0, 1, 2, 1, 2, 1, [1, 2], [1, 2], [0, 2], 1, 2, 1, 2, 1, 2, 1, 2]
[[layer]]
number = 1
experts = [2, 1, [0, 1], 1, 2, 1, [1, 2], [1, 2], [2, 1], 1, 2, 1, 2, 1, 2, 1, 2]
)";

std::ostream& operator<<(std::ostream& out, const Case& c) {
  return out << c.world << " ranks, experts over " << c.expert << ", "
             << c.chunks << " chunks, budget " << c.budget << ", recompute "
             << c.recompute << ", " << c.node << " ranks a node";
}

class RowBudgetTest : public ::testing::TestWithParam<Case> {
 protected:
  static Config config() {
    const Case& c = GetParam();
    Config config;
    config.model.hidden = 16;
    config.model.layers = 2;
    config.model.vocabulary = 50;
    config.model.max_positions = 16;
    config.model.attention = {.heads = 2,
                              .kv_lora_rank = 8,
                              .qk_nope_size = 4,
                              .qk_rope_size = 4,
                              .v_size = 4};
    config.model.chain = {.routed_experts = 17, .top_k = 2, .intermediate = 12};
    config.data.sequence = 16;
    config.train.micro_batch_tokens = 4 * 16;
    config.train.batch_tokens = c.world * config.train.micro_batch_tokens;
    config.train.recompute = c.recompute;
    config.parallel.chunks = c.chunks;
    config.parallel.row_budget = c.budget;
    config.parallel.expert = c.expert;
    config.parallel.wire = c.wire;
    config.parallel.ranks_per_node = c.node;
    config.parallel.hierarchical = c.node > 0;
    if (c.replicas) {
      config.parallel.placement_file =
          (std::filesystem::path(::testing::TempDir()) /
           fmt::format("row_budget_{}.toml", getpid()))
              .string();
    }
    return config;
  }

  /// Rows of one rank: all full, or, on some ranks, few or none.
  static testing::Batch rows(int rank, bool uneven) {
    testing::Batch batch;
    const int count = uneven ? 4 - rank % 5 : 4;
    for (int row = 0; row < count; ++row) {
      testing::add_row(batch, {uneven && row % 2 == 0 ? 3 : 16}, 50, 3);
    }
    return batch;
  }

  /// Three steps of one rank.
  static void train(Transport& transport, Routes routes, bool uneven) {
    const Config config = RowBudgetTest::config();
    const Precision precision{GetParam().dtype};
    const Mesh mesh = config.mesh(transport.size());
    const auto backend = make_cpu_backend(1);
    const std::int64_t micro_rows = config.micro_rows(mesh.world);
    Ranks ranks(transport, *backend, mesh, config.placements(mesh),
                Communicator::Deadline(60), config.dispatch_rules(micro_rows));
    Model model(*backend, config.model, precision, &ranks);
    model.parameters().initialize(5);
    ForcedRoutes forced(*backend, config.model, routes,
                        micro_rows * config.data.sequence,
                        transport.rank() % mesh.expert, mesh.expert);
    const std::vector<ChunkMemory> planned =
        estimate(config, precision, mesh).chunks;
    std::vector<std::unique_ptr<Chunk>> chunks;
    for (const ChunkMemory& memory : planned) {
      Chunk& chunk = *chunks.emplace_back(model.make_chunk());
      chunk.recompute = config.train.recompute == "layer";
      chunk.observer = &forced;
      chunk.reserve(memory, micro_rows * config.data.sequence);
    }
    const testing::Batch batch = rows(transport.rank(), uneven);
    std::int64_t taken = 0;
    for (int step = 0; step < 3; ++step) {
      // Statistics of layers that are computed again come with the first step.
      if (step == 1) taken = backend->memory().allocations;
      model.train(batch.tokens(), batch.scale(), chunks);
    }
    EXPECT_EQ(backend->memory().allocations, taken);
    for (std::size_t i = 0; i < chunks.size(); ++i) {
      EXPECT_LE(chunks[i]->activations.peak_bytes(), planned[i].activations)
          << "chunk " << i;
      EXPECT_LE(chunks[i]->scratch.peak_bytes(), planned[i].scratch)
          << "chunk " << i;
      EXPECT_LE(chunks[i]->wire.peak_bytes(), planned[i].wire) << "chunk " << i;
    }
  }
};

TEST_P(RowBudgetTest, BoundsMemoryWhateverTheRouting) {
  if (const Config c = config(); !c.parallel.placement_file.empty()) {
    write_file_atomically(c.parallel.placement_file, kReplicas);
  }
  for (const Routes routes :
       {Routes::kFirst, Routes::kLast, Routes::kSpread, Routes::kOwn}) {
    for (const bool uneven : {false, true}) {
      local::run_ranks(GetParam().world, [&](Transport& transport) {
        SCOPED_TRACE(fmt::format("routes {}, uneven {}, rank {}",
                                 static_cast<int>(routes), uneven,
                                 transport.rank()));
        train(transport, routes, uneven);
      });
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Layouts, RowBudgetTest,
    ::testing::Values(
        Case{2, 2, 1, 2}, Case{2, 2, 2, 1}, Case{3, 3, 1, 0.25},
        Case{4, 4, 2, 0.5, "layer"},
        Case{4, 2, 1, 1, "none", DType::kBFloat16, "float32"},
        Case{3, 3, 2, 0.5, "none", DType::kFloat32, "auto", true},
        Case{4, 4, 1, 100}, Case{8, 8, 2, 2, "layer"},
        Case{8, 8, 1, 0.5, "none", DType::kFloat64},
        Case{.world = 4, .expert = 4, .chunks = 2, .budget = 0.5, .node = 2},
        Case{.world = 8,
             .expert = 8,
             .chunks = 1,
             .budget = 2,
             .recompute = "layer",
             .dtype = DType::kBFloat16,
             .wire = "float32",
             .node = 4},
        Case{.world = 8, .expert = 8, .chunks = 1, .budget = 1, .node = 2}));

}  // namespace
}  // namespace catena
