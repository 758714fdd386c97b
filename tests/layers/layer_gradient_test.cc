// Finite differences of the layers that do not route.

#include "layers/decoder_layer.h"
#include "layers/head.h"
#include "tests/layers/layer_fixture.h"

namespace catena::testing {
namespace {

TEST(LinearTest, GradientIsThatOfFiniteDifferences) {
  LayerFixture f(small_config());
  const Linear linear(f.set, "linear", 7, 5, 0.3);
  for (const bool accumulate : {false, true}) {
    f.check(
        7, 5,
        [&](TensorView x, TensorView out, TensorView d_out, TensorView d_x) {
          linear.forward(f.chunk, x, out);
          linear.backward(f.chunk, x, d_out, d_x, accumulate);
          return 0.0;
        },
        accumulate);
  }
}

TEST(RmsNormLayerTest, GradientIsThatOfFiniteDifferences) {
  LayerFixture f(small_config());
  const RmsNormLayer norm(f.set, "norm", 9, 1e-3);
  for (const bool accumulate : {false, true}) {
    f.check(
        9, 9,
        [&](TensorView x, TensorView out, TensorView d_out, TensorView d_x) {
          RmsNormLayer::Saved saved;
          norm.forward(f.chunk, x, out, saved);
          norm.backward(f.chunk, saved, d_out, d_x, accumulate);
          return 0.0;
        },
        accumulate);
  }
}

TEST(RmsNormLayerTest, GradientMayTakeThePlaceOfTheOutputs) {
  LayerFixture f(small_config());
  const RmsNormLayer norm(f.set, "norm", 9, 1e-3);
  f.check(9, 9,
          [&](TensorView x, TensorView out, TensorView d_out, TensorView d_x) {
            RmsNormLayer::Saved saved;
            norm.forward(f.chunk, x, out, saved);
            norm.backward(f.chunk, saved, d_out, d_out);
            f.chunk.kernels()(Copy{.from = d_out, .to = d_x});
            return 0.0;
          });
}

TEST(SwiGluMlpTest, GradientIsThatOfFiniteDifferences) {
  LayerFixture f(small_config());
  const SwiGluMlp mlp(f.set, "mlp", 8, 11, 0.4);
  for (const bool accumulate : {false, true}) {
    f.check(
        8, 8,
        [&](TensorView x, TensorView out, TensorView d_out, TensorView d_x) {
          SwiGluMlp::Saved saved;
          mlp.forward(f.chunk, x, out, saved);
          mlp.backward(f.chunk, x, saved, d_out, d_x, accumulate);
          return 0.0;
        },
        accumulate);
  }
}

void check_attention(const ModelConfig& config) {
  LayerFixture f(config);
  const auto attention =
      config.attention.kind == "mla"
          ? make_latent_attention(f.set, "attention", config, f.table)
          : make_grouped_query_attention(f.set, "attention", config, f.table);
  f.check(config.hidden, config.hidden,
          [&](TensorView x, TensorView out, TensorView d_out, TensorView d_x) {
            AttentionLayer::Saved saved;
            attention->forward(f.chunk, 0, x, out, saved);
            attention->backward(f.chunk, saved, d_out, d_x);
            return 0.0;
          });
}

TEST(LatentAttentionTest, GradientIsThatOfFiniteDifferences) {
  for (const int rank : {0, 7}) {
    for (const char* layout : {"interleaved", "halves"}) {
      ModelConfig config = small_config();
      config.attention.q_lora_rank = rank;
      config.rope.layout = layout;
      SCOPED_TRACE(fmt::format("rank {}, {}", rank, layout));
      check_attention(config);
    }
  }
}

TEST(LatentAttentionTest, GradientIsThatOfFiniteDifferencesWithYarn) {
  ModelConfig config = small_config();
  config.rope.scaling = "yarn";
  config.rope.factor = 8;
  config.rope.mscale = 0.5;
  config.rope.mscale_all_dim = 0.8;
  check_attention(config);
}

TEST(GroupedQueryAttentionTest, GradientIsThatOfFiniteDifferences) {
  for (const char* norm : {"none", "head", "full"}) {
    for (const int key_heads : {1, 2, 4}) {
      ModelConfig config = small_config();
      config.attention.kind = "gqa";
      config.attention.qk_norm = norm;
      config.attention.kv_heads = key_heads;
      config.rope.layout = key_heads == 2 ? "interleaved" : "auto";
      SCOPED_TRACE(fmt::format("norm {}, {} key heads", norm, key_heads));
      check_attention(config);
    }
  }
}

TEST(HeadTest, GradientIsThatOfFiniteDifferences) {
  LayerFixture f(small_config());
  const Head head(f.set, f.config, nullptr);
  f.check(f.config.hidden, 1,
          [&](TensorView x, TensorView, TensorView, TensorView d_x) {
            const TensorView loss = f.chunk.keep(DType::kFloat64, {1});
            f.chunk.kernels()(Fill{.x = loss});
            head.forward(f.chunk, x, loss, d_x);
            return read_values(*f.backend, loss)[0] *
                   f.chunk.scale.per_trained_token;
          });
}

// A vocabulary so large that the head works in blocks of 32 rows, and more
// rows than one block.
TEST(HeadTest, BlocksOfRowsGiveTheLossOfAllRows) {
  ModelConfig config = small_config();
  config.vocabulary = 140'000;
  config.hidden = 2;
  LayerFixture f(config);
  f.batch = {};
  add_row(f.batch, {37, 30}, config.vocabulary, 5);
  const Head head(f.set, config, nullptr);
  f.set.initialize(7);
  f.chunk.load(f.batch.tokens(), 0, 1);
  const TensorView h =
      f.chunk.keep(DType::kFloat64, {f.batch.size(), config.hidden});
  write_values(*f.backend, h,
               LayerFixture::random(f.batch.size() * config.hidden, 9));
  const TensorView d_h = f.chunk.keep(DType::kFloat64, h.shape());
  const TensorView loss = f.chunk.keep(DType::kFloat64, {1});
  f.chunk.kernels()(Fill{.x = loss});
  head.forward(f.chunk, h, loss, d_h);

  const TensorView logits =
      f.chunk.keep(DType::kFloat64, {f.batch.size(), config.vocabulary});
  head.logits(f.chunk, h, logits);
  const Values all = read_values(*f.backend, logits);
  double expected = 0;
  const auto width = static_cast<std::size_t>(config.vocabulary);
  for (std::size_t i = 0; i < f.batch.ids.size(); ++i) {
    if (f.batch.targets[i] < 0) continue;
    const Values row = naive::part(all, i * width, width);
    expected += naive::log_sum_exp(row) -
                row[static_cast<std::size_t>(f.batch.targets[i])];
  }
  EXPECT_NEAR(read_values(*f.backend, loss)[0], expected, 1e-9 * expected);
}

}  // namespace
}  // namespace catena::testing
