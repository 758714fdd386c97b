#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "layers/statistics.h"
#include "runtime/base/hash.h"
#include "runtime/base/random.h"
#include "tests/layers/model_fixture.h"
#include "tests/support/gradient_check.h"

namespace catena::testing {

/// One layer in float64 with a chunk of packed rows around it, for finite
/// differences of <r, out> (+ losses of its own) with a fixed random r.
class LayerFixture {
 public:
  /// Runs forward and backward of the layer and returns losses besides
  /// <r, out>. out starts at zero.
  using Run = std::function<double(TensorView x, TensorView out,
                                   TensorView d_out, TensorView d_x)>;

  explicit LayerFixture(const ModelConfig& model_config)
      : config(model_config),
        backend(make_cpu_backend(1)),
        set(*backend, Precision{DType::kFloat64}),
        chunk(*backend, Precision{DType::kFloat64}),
        batch(packed_batch(config.vocabulary)),
        statistics(*backend, DType::kFloat64, config.chain_layers(),
                   config.chain.iterations, config.chain.routed_experts,
                   config.chain.top_k),
        recorder(*backend) {
    chunk.observer = &recorder;
    chunk.scale = batch.scale();
    table = std::make_shared<const RopeTable>(
        *backend, DType::kFloat64, config.rope, rope_size(config.attention),
        config.max_positions);
  }

  /// Forward and backward once; the routes it took are kept from now on.
  /// With `accumulates`, d_x is added to rather than written.
  void check(std::int64_t in, std::int64_t out, const Run& run,
             bool accumulates = false) {
    in_ = in;
    out_ = out;
    run_ = run;
    set.initialize(7);
    for (std::size_t p = 0; p < set.size(); ++p) {
      write_values(
          *backend, set[p].master(),
          noisy(read_values(*backend, set[p].master()), hash64(set[p].name())));
    }
    x_ = random(batch.size() * in, 1);
    d_x_before_ = Values(x_.size(), 0.0);
    if (accumulates) d_x_before_ = random(batch.size() * in, 3);
    evaluate();
    recorder.replay();
    const std::function<double()> loss = [this] { return evaluate(); };
    loss();

    std::vector<Differentiated> all;
    all.push_back({"x", x_, d_x_, [this](const Values& v) { x_ = v; }});
    for (std::size_t p = 0; p < set.size(); ++p) {
      const Parameter& parameter = set[p];
      all.push_back({parameter.name(),
                     read_values(*backend, parameter.master()),
                     read_values(*backend, parameter.gradient()),
                     [this, &parameter](const Values& v) {
                       write_values(*backend, parameter.master(), v);
                     }});
    }
    for (const Differentiated& one : all) check_gradient(one, loss);
  }

  /// Runs a task of the chunk to its end.
  void finish(Task task) { pipeline_.run({&task, 1}); }

  /// Weighted losses of every router call since the last clear().
  [[nodiscard]] double router_losses() const {
    double sum = 0;
    for (std::int64_t layer = 0; layer < statistics.layers(); ++layer) {
      for (std::int64_t t = 0; t < statistics.iterations(); ++t) {
        const RouteSummary call = statistics.summary(layer, t);
        sum += call.auxiliary_loss + config.router.z_loss *
                                         chunk.scale.per_token * call.z_loss *
                                         call.tokens;
      }
    }
    return sum;
  }

  [[nodiscard]] static Values random(std::int64_t count, std::uint64_t stream) {
    return noisy(Values(static_cast<std::size_t>(count), 0.0), stream, 1);
  }

  ModelConfig config;
  std::unique_ptr<Backend> backend;
  ParameterSet set;
  Chunk chunk;
  Batch batch;
  RoutingStatistics statistics;
  RouteRecorder recorder;
  std::shared_ptr<const RopeTable> table;

 private:
  [[nodiscard]] static Values noisy(Values values, std::uint64_t stream,
                                    double size = 0.1) {
    const Random random(41, stream);
    for (std::size_t i = 0; i < values.size(); ++i) {
      values[i] += size * random.normal(i);
    }
    return values;
  }

  double evaluate() {
    set.clear_gradients();
    statistics.clear();
    chunk.load(batch.tokens(), 0, batch.tokens().rows());
    const auto tensor = [&](std::int64_t width, const Values& values) {
      const TensorView view =
          chunk.keep(DType::kFloat64, {batch.size(), width});
      write_values(*backend, view, values);
      return view;
    };
    const Values r = random(batch.size() * out_, 2);
    const TensorView out = tensor(out_, Values(r.size(), 0.0));
    const TensorView d_x = tensor(in_, d_x_before_);
    const double losses = run_(tensor(in_, x_), out, tensor(out_, r), d_x);
    d_x_ = read_values(*backend, d_x);
    for (std::size_t i = 0; i < d_x_.size(); ++i) d_x_[i] -= d_x_before_[i];
    EXPECT_EQ(chunk.scratch.used_bytes(), 0u);
    return losses + naive::dot(r, read_values(*backend, out));
  }

  std::int64_t in_ = 0, out_ = 0;
  Run run_;
  Values x_, d_x_, d_x_before_;
  Pipeline pipeline_;
};

}  // namespace catena::testing
