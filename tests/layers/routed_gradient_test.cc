// Finite differences of what routes: router, experts, chain, decoder layer.
// Routes are those of the first evaluation, so that no difference steps over
// a change of the choice.

#include "layers/decoder_layer.h"
#include "tests/layers/layer_fixture.h"

namespace catena::testing {
namespace {

void check_router(const ModelConfig& config) {
  LayerFixture f(config);
  const Router router(f.set, "gate", config);
  f.check(
      config.hidden, config.chain.top_k,
      [&](TensorView x, TensorView out, TensorView d_out, TensorView d_x) {
        Router::Saved saved;
        const auto cell = f.statistics.cell(0, 0);
        router.forward(f.chunk, 0, 0, x, cell, saved);
        f.chunk.kernels()(Copy{.from = saved.weights, .to = out});
        router.backward(f.chunk, cell, saved, d_out, d_x);
        return f.router_losses();
      },
      true);
}

TEST(RouterTest, GradientThroughWeightsIsThatOfFiniteDifferences) {
  for (const char* score : {"softmax", "sigmoid"}) {
    for (const bool renormalize : {false, true}) {
      ModelConfig config = small_config();
      config.router.score = score;
      config.router.renormalize = renormalize;
      config.router.scale = 1.7;
      config.router.auxiliary_loss = 0;
      SCOPED_TRACE(fmt::format("{} {}", score, renormalize));
      check_router(config);
    }
  }
}

TEST(RouterTest, GradientOfEveryLossIsThatOfFiniteDifferences) {
  for (const char* score : {"softmax", "sigmoid"}) {
    for (const char* scope : {"sequence", "batch"}) {
      for (const double z_loss : {0.0, 0.5}) {
        ModelConfig config = small_config();
        config.router.score = score;
        config.router.auxiliary_loss = 3;
        config.router.auxiliary_scope = scope;
        config.router.z_loss = z_loss;
        SCOPED_TRACE(fmt::format("{} {} {}", score, scope, z_loss));
        check_router(config);
      }
    }
  }
}

/// Expert-major rows; expert 2 receives none.
struct ExpertsFixture : LayerFixture {
  ExpertsFixture()
      : LayerFixture(small_config()),
        experts(set, "experts", config, 0, nullptr) {
    for (std::int64_t i = 0; i < batch.size(); ++i) {
      const std::int64_t chosen = i % config.chain.routed_experts;
      choices.push_back(static_cast<double>(chosen == 2 ? 3 : chosen));
    }
    weights = random(batch.size(), 8);
  }

  /// out[r] = weight[r] * experts(x)[r]
  double run(TensorView x, TensorView out, TensorView d_out, TensorView d_x) {
    const ArenaScope scope(chunk.scratch);
    const TensorView index = chunk.keep(DType::kInt32, {batch.size(), 1});
    write_values(*backend, index, choices);
    const TensorView weight = chunk.keep(DType::kFloat64, {batch.size()});
    write_values(*backend, weight, weights);
    DispatchPlan plan;
    const Dispatch dispatch(chunk.kernels(), nullptr, {});
    Task task = dispatch.plan(
        chunk, x, index, weight.reshape({batch.size(), 1}),
        config.chain.routed_experts, 0, chunk.activations, chunk.scratch, plan);
    Pipeline().run({&task, 1});
    const TensorView y = chunk.keep(DType::kFloat64, x.shape());
    Experts::Saved saved;
    experts.forward(chunk, x, plan.main.offsets, y, saved, chunk.activations);
    Values scaled = read_values(*backend, y);
    const auto hidden = static_cast<std::size_t>(config.hidden);
    for (std::size_t i = 0; i < scaled.size(); ++i) {
      scaled[i] *= weights[i / hidden];
    }
    write_values(*backend, out, scaled);

    const TensorView d_weight = chunk.keep(DType::kFloat64, {batch.size()});
    const Values r = read_values(*backend, d_out);
    const TensorView d_activation =
        chunk.keep(DType::kFloat64, {batch.size(), experts.intermediate()});
    Experts::Terms terms;
    experts.backward(chunk, x, plan.main.offsets, saved, weight, d_out,
                     d_activation, d_x, d_weight, terms);
    experts.add_gradients(chunk, terms);
    const Values found = read_values(*backend, d_weight);
    for (std::size_t row = 0; row < found.size(); ++row) {
      double expected = 0;
      for (std::size_t c = row * hidden; c < (row + 1) * hidden; ++c) {
        expected += r[c] * scaled[c] / weights[row];
      }
      EXPECT_NEAR(found[row], expected, 1e-12 * (1 + std::abs(expected)));
    }
    return 0;
  }

  Experts experts;
  Values choices, weights;
};

TEST(ExpertsTest, GradientIsThatOfFiniteDifferences) {
  ExpertsFixture f;
  f.check(f.config.hidden, f.config.hidden,
          [&](TensorView x, TensorView out, TensorView d_out, TensorView d_x) {
            return f.run(x, out, d_out, d_x);
          });
  for (std::size_t p = 0; p < f.set.size(); ++p) {
    for (const NamedPart& part : f.set[p].spec().parts) {
      const double size =
          norm(read_values(*f.backend, part_of(f.set[p].gradient(), part)));
      const bool idle = part.name.starts_with("experts.2.");
      EXPECT_EQ(idle, size == 0) << part.name;
    }
  }
}

void check_chain(const ModelConfig& config) {
  LayerFixture f(config);
  const Chain chain(f.set, "mlp", config, 0, nullptr);
  f.check(config.hidden, config.hidden,
          [&](TensorView x, TensorView out, TensorView d_out, TensorView d_x) {
            Chain::Saved saved;
            f.finish(chain.forward(f.chunk, x, out, f.statistics, saved));
            f.finish(chain.backward(f.chunk, f.statistics, saved, d_out, d_x));
            return f.router_losses();
          });
}

TEST(ChainTest, GradientIsThatOfFiniteDifferences) {
  for (const char* residual : {"inner", "outer", "both", "none"}) {
    for (const bool independent : {true, false}) {
      for (const int iterations : {1, 2, 3}) {
        ModelConfig config = small_config();
        config.chain.residual = residual;
        config.chain.independent_gates = independent;
        config.chain.iterations = iterations;
        config.chain.shared_experts = iterations % 3;
        config.router.z_loss = 0.1;
        SCOPED_TRACE(
            fmt::format("{} {} {}", residual, independent, iterations));
        check_chain(config);
      }
    }
  }
}

TEST(ChainTest, GradientMayTakeThePlaceOfTheOutputs) {
  ModelConfig config = small_config();
  LayerFixture f(config);
  const Chain chain(f.set, "mlp", config, 0, nullptr);
  f.check(
      config.hidden, config.hidden,
      [&](TensorView x, TensorView out, TensorView d_out, TensorView d_x) {
        Chain::Saved saved;
        f.finish(chain.forward(f.chunk, x, out, f.statistics, saved));
        f.finish(chain.backward(f.chunk, f.statistics, saved, d_out, d_out));
        f.chunk.kernels()(Copy{.from = d_out, .to = d_x});
        return f.router_losses();
      });
}

void check_decoder_layer(const ModelConfig& config, std::int64_t layer) {
  LayerFixture f(config);
  const DecoderLayer decoder(f.set, layer, config, f.table, nullptr);
  f.check(config.hidden, config.hidden,
          [&](TensorView h, TensorView out, TensorView d_out, TensorView d_h) {
            DecoderLayer::Saved saved;
            f.finish(decoder.forward(f.chunk, h, out, f.statistics, saved));
            f.finish(decoder.backward(f.chunk, f.statistics, saved, d_out));
            f.chunk.kernels()(Copy{.from = d_out, .to = d_h});
            return f.router_losses();
          });
}

TEST(DecoderLayerTest, GradientIsThatOfFiniteDifferences) {
  for (const char* kind : {"mla", "gqa"}) {
    for (const char* residual : {"inner", "outer"}) {
      ModelConfig config = small_config();
      config.attention.kind = kind;
      config.chain.residual = residual;
      SCOPED_TRACE(fmt::format("{} {}", kind, residual));
      check_decoder_layer(config, 1);
    }
  }
}

TEST(DecoderLayerTest, GradientIsThatOfFiniteDifferencesWhenDense) {
  ModelConfig config = small_config();
  config.dense_layers = 1;
  check_decoder_layer(config, 0);
}

}  // namespace
}  // namespace catena::testing
