#include "layers/linear.h"

namespace catena {

Linear::Linear(ParameterSet& set, const std::string& name, std::int64_t in,
               std::int64_t out, double range)
    : weight_(&set.add({.shape = {out, in},
                        .parts = {{name + ".weight", 0, {out, in}}},
                        .initializer = Initializer::kNormal,
                        .range = range})) {}

void Linear::forward(Chunk& chunk, TensorView x, TensorView y) const {
  chunk.kernels()(
      Gemm{.a = x, .b = weight_->weight(), .c = y, .transpose_b = true});
}

void Linear::backward(Chunk& chunk, TensorView x, TensorView d_y,
                      TensorView d_x, bool accumulate) const {
  chunk.kernels()(Gemm{
      .a = d_y, .b = weight_->weight(), .c = d_x, .accumulate = accumulate});
  chunk.kernels()(Gemm{.a = d_y,
                       .b = x,
                       .c = weight_->gradient(),
                       .transpose_a = true,
                       .accumulate = true});
}

RmsNormLayer::RmsNormLayer(ParameterSet& set, const std::string& name,
                           std::int64_t size, double epsilon)
    : weight_(&set.add({.shape = {size},
                        .parts = {{name + ".weight", 0, {size}}},
                        .initializer = Initializer::kOnes,
                        .matrix = false})),
      epsilon_(epsilon) {}

void RmsNormLayer::forward(Chunk& chunk, TensorView x, TensorView y,
                           Saved& saved, TensorView residual) const {
  saved.x = x;
  saved.inverse_rms = chunk.keep(chunk.wide(), {x.size(0)});
  chunk.kernels()(RmsNorm{.x = x,
                          .residual = residual,
                          .weight = weight_->master(),
                          .out = y,
                          .inverse_rms = saved.inverse_rms,
                          .epsilon = epsilon_});
}

void RmsNormLayer::backward(Chunk& chunk, const Saved& saved, TensorView d_y,
                            TensorView d_x, bool accumulate) const {
  chunk.kernels()(RmsNormGradient{.d_out = d_y,
                                  .x = saved.x,
                                  .weight = weight_->master(),
                                  .inverse_rms = saved.inverse_rms,
                                  .d_x = d_x,
                                  .d_weight = weight_->gradient(),
                                  .accumulate = accumulate});
}

SwiGluMlp::SwiGluMlp(ParameterSet& set, const std::string& name,
                     std::int64_t hidden, std::int64_t intermediate,
                     double range)
    : gate_up_(&set.add(
          {.shape = {2 * intermediate, hidden},
           .parts = {{name + ".gate_proj.weight", 0, {intermediate, hidden}},
                     {name + ".up_proj.weight",
                      intermediate * hidden,
                      {intermediate, hidden}}},
           .initializer = Initializer::kNormal,
           .range = range})),
      down_(set, name + ".down_proj", intermediate, hidden, range),
      intermediate_(intermediate) {}

void SwiGluMlp::forward(Chunk& chunk, TensorView x, TensorView y,
                        Saved& saved) const {
  const std::int64_t rows = x.size(0);
  saved.gate_up = chunk.keep(chunk.compute(), {rows, 2 * intermediate_});
  saved.activation = chunk.keep(chunk.compute(), {rows, intermediate_});
  chunk.kernels()(Gemm{.a = x,
                       .b = gate_up_->weight(),
                       .c = saved.gate_up,
                       .transpose_b = true});
  chunk.kernels()(SwiGlu{.gate_up = saved.gate_up, .out = saved.activation});
  down_.forward(chunk, saved.activation, y);
}

void SwiGluMlp::backward(Chunk& chunk, TensorView x, const Saved& saved,
                         TensorView d_y, TensorView d_x,
                         bool accumulate) const {
  const ArenaScope scope(chunk.scratch);
  const TensorView d_activation =
      chunk.temporary(chunk.compute(), saved.activation.shape());
  down_.backward(chunk, saved.activation, d_y, d_activation);
  // d_gate_up takes the place of gate_up.
  chunk.kernels()(SwiGluGradient{.gate_up = saved.gate_up,
                                 .d_out = d_activation,
                                 .weight = {},
                                 .d_gate_up = saved.gate_up,
                                 .activation = d_activation,
                                 .d_weight = {}});
  chunk.kernels()(Gemm{.a = saved.gate_up,
                       .b = gate_up_->weight(),
                       .c = d_x,
                       .accumulate = accumulate});
  chunk.kernels()(Gemm{.a = saved.gate_up,
                       .b = x,
                       .c = gate_up_->gradient(),
                       .transpose_a = true,
                       .accumulate = true});
}

}  // namespace catena
