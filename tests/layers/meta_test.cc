// The model on the meta backend: no values, the same counts and the same
// memory.

#include "tests/layers/model_fixture.h"

namespace catena::testing {
namespace {

struct Account {
  Cost total;
  std::vector<KernelCount> kernels;
  std::vector<std::size_t> peaks;
};

Account train(Backend& backend, const ModelConfig& config, DType dtype,
              const Batch& batch, int chunk_count) {
  Model model(backend, config, Precision{dtype});
  model.parameters().initialize(1);
  std::vector<std::unique_ptr<Chunk>> chunks;
  for (int i = 0; i < chunk_count; ++i) chunks.push_back(model.make_chunk());
  backend.kernels().reset_counts();
  model.train(batch.tokens(), batch.scale(), chunks);
  Account account;
  account.total = backend.kernels().total();
  for (const KernelCount& count : backend.kernels()) {
    account.kernels.push_back(count);
  }
  for (const auto& chunk : chunks) {
    account.peaks.push_back(chunk->activations.peak_bytes());
    account.peaks.push_back(chunk->scratch.peak_bytes());
  }
  return account;
}

class MetaTest : public ::testing::TestWithParam<Options> {};

TEST_P(MetaTest, CountsWhatTheCpuCounts) {
  const Batch batch = packed_batch(GetParam().config.vocabulary);
  for (const DType dtype :
       {DType::kFloat32, DType::kBFloat16, DType::kFloat64}) {
    for (const int chunks : {1, 3}) {
      const auto cpu = make_cpu_backend(1), meta = make_meta_backend();
      const Account real = train(*cpu, GetParam().config, dtype, batch, chunks);
      const Account planned =
          train(*meta, GetParam().config, dtype, batch, chunks);
      EXPECT_EQ(planned.total.flops, real.total.flops);
      EXPECT_EQ(planned.total.read_bytes, real.total.read_bytes);
      EXPECT_EQ(planned.total.write_bytes, real.total.write_bytes);
      EXPECT_EQ(planned.peaks, real.peaks);
      ASSERT_EQ(planned.kernels.size(), real.kernels.size());
      for (std::size_t i = 0; i < real.kernels.size(); ++i) {
        EXPECT_EQ(planned.kernels[i].name, real.kernels[i].name);
        EXPECT_EQ(planned.kernels[i].calls, real.kernels[i].calls);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Options, MetaTest, ::testing::ValuesIn(all_options()),
                         options_name);

// Per token, forward: latent attention's projections, experts and routers of
// every iteration, head; each twice more in backward. Attention's core is
// counted per pair of query and key: two products forward, five backward.
TEST(MetaFlopsTest, AreThoseOfTheFormula) {
  const ModelConfig m = small_config();
  const AttentionConfig& a = m.attention;
  const ChainConfig& c = m.chain;
  const Batch batch = packed_batch(m.vocabulary);
  const auto meta = make_meta_backend();
  const Account account = train(*meta, m, DType::kFloat32, batch, 2);
  double products = 0, core = 0;
  for (const KernelCount& count : account.kernels) {
    if (count.name == Gemm::kName || count.name == GroupedGemm::kName ||
        count.name == GroupedGemmGradient::kName) {
      products += count.cost.flops;
    }
    if (count.name == Attention::kName ||
        count.name == AttentionGradient::kName) {
      core += count.cost.flops;
    }
  }
  const std::int64_t qk = a.qk_nope_size + a.qk_rope_size;
  const std::int64_t projections =
      2 *
      (m.hidden * a.heads * qk + m.hidden * (a.kv_lora_rank + a.qk_rope_size) +
       a.kv_lora_rank * a.heads * (a.qk_nope_size + a.v_size) +
       a.heads * a.v_size * m.hidden);
  const std::int64_t chain = c.iterations * (6 * m.hidden * c.intermediate *
                                                 (c.top_k + c.shared_experts) +
                                             2 * m.hidden * c.routed_experts);
  const std::int64_t head = 2 * m.hidden * m.vocabulary;
  EXPECT_EQ(products,
            static_cast<double>(3 * batch.size() *
                                (m.layers * (projections + chain) + head)));

  std::int64_t pairs = 0;
  for (std::size_t i = 0; i < batch.ids.size(); ++i) {
    pairs += batch.positions[i] + 1;
  }
  EXPECT_EQ(core,
            static_cast<double>(m.layers * 2 * pairs * a.heads *
                                ((qk + a.v_size) + (3 * qk + 2 * a.v_size))));
}

}  // namespace
}  // namespace catena::testing
