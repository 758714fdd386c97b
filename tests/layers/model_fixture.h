#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "layers/model.h"
#include "runtime/base/hash.h"
#include "runtime/base/random.h"
#include "tests/layers/batches.h"
#include "tests/layers/model_options.h"
#include "tests/reference/naive_model.h"

namespace catena::testing {

using Values = std::vector<double>;

/// Weights that leave nothing at a value that hides an error: norms are not
/// one, correction biases not zero. The same for every precision.
inline void randomize(Model& model) {
  model.parameters().initialize(11);
  for (std::size_t p = 0; p < model.parameters().size(); ++p) {
    const Parameter& parameter = model.parameters()[p];
    if (parameter.spec().initializer != Initializer::kOnes) continue;
    const Random random(12, hash64(parameter.name()));
    Values values(static_cast<std::size_t>(parameter.elements()));
    for (std::size_t i = 0; i < values.size(); ++i) {
      values[i] = 1 + 0.2 * random.normal(i);
    }
    write_values(model.backend(), parameter.master(), values);
  }
  model.parameters().refresh_copies();
  for (Chain* chain : model.chains()) {
    for (std::int64_t t = 0; t < chain->routers(); ++t) {
      const TensorView bias = chain->router(t).bias();
      if (!bias.defined()) continue;
      const Random random(13, hash64(chain->router(t).name()));
      Values values(static_cast<std::size_t>(bias.elements()));
      for (std::size_t i = 0; i < values.size(); ++i) {
        values[i] = 0.2 * random.normal(i);
      }
      write_values(model.backend(), bias, values);
    }
  }
}

/// The weights of `model`, by checkpoint name.
inline naive::Weights naive_weights(Model& model) {
  naive::Weights weights;
  for (std::size_t p = 0; p < model.parameters().size(); ++p) {
    const Parameter& parameter = model.parameters()[p];
    for (const NamedPart& part : parameter.spec().parts) {
      weights[part.name] =
          read_values(model.backend(), part_of(parameter.master(), part));
    }
  }
  for (Chain* chain : model.chains()) {
    for (std::int64_t t = 0; t < chain->routers(); ++t) {
      const Router& router = chain->router(t);
      if (router.bias().defined()) {
        weights[router.name() + ".e_score_correction_bias"] =
            read_values(model.backend(), router.bias());
      }
    }
  }
  return weights;
}

/// Gradients by checkpoint name.
inline std::map<std::string, Values> gradients(Model& model) {
  std::map<std::string, Values> result;
  for (std::size_t p = 0; p < model.parameters().size(); ++p) {
    const Parameter& parameter = model.parameters()[p];
    for (const NamedPart& part : parameter.spec().parts) {
      result[part.name] =
          read_values(model.backend(), part_of(parameter.gradient(), part));
    }
  }
  return result;
}

/// Writes routes down, and replays routes that were written down before.
/// Works for models that see the whole batch in one chunk.
class RouteRecorder : public Observer {
 public:
  using Key = std::pair<std::int64_t, std::int64_t>;

  explicit RouteRecorder(Backend& backend) : backend_(&backend) {}

  /// From now on, what was recorded is forced.
  void replay() { forced_ = recorded_; }
  void replay(const naive::Routes& routes) {
    for (const auto& [key, rows] : routes) {
      Values& flat = forced_[key];
      flat.clear();
      for (const naive::Route& route : rows) {
        flat.insert(flat.end(), route.experts.begin(), route.experts.end());
      }
      top_k_ = static_cast<std::int64_t>(rows[0].experts.size());
    }
  }

  TensorView forced_routes(const Chunk&, std::int64_t layer,
                           std::int64_t iteration) override {
    const auto found = forced_.find({layer, iteration});
    if (found == forced_.end()) return {};
    const auto size = static_cast<std::int64_t>(found->second.size());
    Tensor& tensor = tensors_[{layer, iteration}];
    if (!tensor.defined()) {
      tensor = Tensor(*backend_, DType::kInt32, {size / top_k_, top_k_});
    }
    write_values(*backend_, tensor.view(), found->second);
    return tensor.view();
  }

  void routed(const Chunk&, std::int64_t layer, std::int64_t iteration,
              const Routed& routes) override {
    top_k_ = routes.index.size(1);
    recorded_[{layer, iteration}] = read_values(*backend_, routes.index);
    weights_[{layer, iteration}] = read_values(*backend_, routes.weight);
  }

  void computed(std::string_view name, TensorView) override {
    names_.emplace_back(name);
  }

  /// [layer, iteration] -> per token.
  [[nodiscard]] naive::Routes routes() const {
    naive::Routes result;
    for (const auto& [key, index] : recorded_) {
      const Values& weight = weights_.at(key);
      const auto k = static_cast<std::size_t>(top_k_);
      auto& rows = result[key];
      for (std::size_t i = 0; i < index.size(); i += k) {
        naive::Route route;
        for (std::size_t j = i; j < i + k; ++j) {
          route.experts.push_back(static_cast<std::int32_t>(index[j]));
          route.weights.push_back(weight[j]);
        }
        rows.push_back(route);
      }
    }
    return result;
  }
  [[nodiscard]] const std::vector<std::string>& names() const { return names_; }

 private:
  Backend* backend_;
  std::int64_t top_k_ = 1;
  std::map<Key, Values> recorded_, weights_, forced_;
  std::map<Key, Tensor> tensors_;
  std::vector<std::string> names_;
};

/// A model on a CPU backend of its own, and its chunks.
struct ModelFixture {
  ModelFixture(const ModelConfig& config, DType dtype, int chunk_count = 1,
               int threads = 1)
      : backend(make_cpu_backend(threads)),
        model(*backend, config, Precision{dtype}) {
    randomize(model);
    for (int i = 0; i < chunk_count; ++i) {
      chunks.push_back(model.make_chunk());
    }
  }

  /// Gradients and statistics of this batch alone.
  void train(const Batch& batch, const LossScale& scale) {
    model.parameters().clear_gradients();
    model.statistics().clear();
    model.train(batch.tokens(), scale, chunks);
  }
  void train(const Batch& batch) { train(batch, batch.scale()); }

  [[nodiscard]] double auxiliary() {
    double sum = 0;
    for_each_call(
        [&](const RouteSummary& call) { sum += call.auxiliary_loss; });
    return sum;
  }
  [[nodiscard]] double z_sum() {
    double sum = 0;
    for_each_call(
        [&](const RouteSummary& call) { sum += call.z_loss * call.tokens; });
    return sum;
  }
  /// What gradients are taken of.
  [[nodiscard]] double total(const LossScale& scale) {
    return model.statistics().total_loss() * scale.per_trained_token +
           auxiliary() +
           z_sum() * model.config().router.z_loss * scale.per_token;
  }
  template <class Visit>
  void for_each_call(const Visit& visit) {
    const RoutingStatistics& statistics = model.statistics();
    for (std::int64_t layer = 0; layer < statistics.layers(); ++layer) {
      for (std::int64_t t = 0; t < statistics.iterations(); ++t) {
        visit(statistics.summary(layer, t));
      }
    }
  }
  [[nodiscard]] Values logits(const Batch& batch) {
    return read_values(*backend, model.logits(batch.tokens(), *chunks[0]));
  }

  std::unique_ptr<Backend> backend;
  Model model;
  std::vector<std::unique_ptr<Chunk>> chunks;
};

inline double norm(const Values& x) {
  double sum = 0;
  for (const double value : x) sum += value * value;
  return std::sqrt(sum);
}

/// ||a - b|| / ||b||, or ||a|| where b is zero.
inline double relative_error(Values a, const Values& b) {
  EXPECT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) a[i] -= b[i];
  const double size = norm(b);
  return size > 0 ? norm(a) / size : norm(a);
}

inline double largest_difference(const Values& a, const Values& b) {
  EXPECT_EQ(a.size(), b.size());
  double largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double difference = std::abs(a[i] - b[i]);
    if (!(difference <= largest)) largest = difference;  // NaN stays
  }
  return largest;
}

}  // namespace catena::testing
