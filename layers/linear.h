#pragma once

#include "layers/chunk.h"
#include "layers/model_config.h"

namespace catena {

/// y = x W^T, W [out, in].
///   x [tokens, in] T, y [tokens, out] T
/// Backward: d_x = d_y W (+ d_x),  d_W += d_y^T x.
class Linear {
 public:
  Linear() = default;
  Linear(ParameterSet& set, const std::string& name, std::int64_t in,
         std::int64_t out, double range);

  [[nodiscard]] std::int64_t out() const { return weight_->spec().shape[0]; }
  void forward(Chunk& chunk, TensorView x, TensorView y) const;
  void backward(Chunk& chunk, TensorView x, TensorView d_y, TensorView d_x,
                bool accumulate = false) const;
  [[nodiscard]] const Parameter& weight() const { return *weight_; }

 private:
  Parameter* weight_ = nullptr;
};

/// y = x / rms(x) * w, each row (kernel RmsNorm).
class RmsNormLayer {
 public:
  struct Saved {
    TensorView x, inverse_rms;
  };
  RmsNormLayer() = default;
  RmsNormLayer(ParameterSet& set, const std::string& name, std::int64_t size,
               double epsilon);

  /// y = norm(x); with a residual x += residual first.
  void forward(Chunk& chunk, TensorView x, TensorView y, Saved& saved,
               TensorView residual = {}) const;
  /// d_x may be d_y.
  void backward(Chunk& chunk, const Saved& saved, TensorView d_y,
                TensorView d_x, bool accumulate = false) const;

 private:
  Parameter* weight_ = nullptr;
  double epsilon_ = 0;
};

/// y = down(silu(gate x) * up x): the shared experts, and dense layers.
///   gate_up [2 * intermediate, hidden], down [hidden, intermediate]
class SwiGluMlp {
 public:
  struct Saved {
    TensorView gate_up, activation;
  };
  SwiGluMlp() = default;
  SwiGluMlp(ParameterSet& set, const std::string& name, std::int64_t hidden,
            std::int64_t intermediate, double range);

  void forward(Chunk& chunk, TensorView x, TensorView y, Saved& saved) const;
  /// Uses up `saved`.
  void backward(Chunk& chunk, TensorView x, const Saved& saved, TensorView d_y,
                TensorView d_x, bool accumulate) const;

 private:
  Parameter* gate_up_ = nullptr;
  Linear down_;
  std::int64_t intermediate_ = 0;
};

}  // namespace catena
