#include "layers/experts.h"

#include <numeric>

namespace catena {

Experts::Experts(ParameterSet& set, const std::string& name,
                 const ModelConfig& config, std::int64_t layer,
                 const Ranks* ranks)
    : intermediate_(config.chain.intermediate) {
  std::vector<std::int64_t> held(
      static_cast<std::size_t>(config.chain.routed_experts));
  std::iota(held.begin(), held.end(), 0);
  if (ranks != nullptr) {
    held.assign(ranks->held(layer).begin(), ranks->held(layer).end());
  }
  const auto experts = static_cast<std::int64_t>(held.size());
  const std::int64_t hidden = config.hidden;
  const std::int64_t size = intermediate_ * hidden;
  ParameterSpec gate_up{.shape = {experts, 2 * intermediate_, hidden},
                        .parts = {},
                        .initializer = Initializer::kNormal,
                        .range = config.initializer_range};
  ParameterSpec down{.shape = {experts, hidden, intermediate_},
                     .parts = {},
                     .initializer = Initializer::kNormal,
                     .range = config.initializer_range};
  if (ranks != nullptr) {
    for (const Ranks::HeldRun& run : ranks->runs(layer)) {
      gate_up.sections.push_back(
          {2 * size * run.begin, 2 * size * run.count, run.replicas});
      down.sections.push_back(
          {size * run.begin, size * run.count, run.replicas});
    }
  }
  const Shape in{intermediate_, hidden}, out{hidden, intermediate_};
  for (std::int64_t e = 0; e < experts; ++e) {
    const std::string expert =
        fmt::format("{}.{}", name, held[static_cast<std::size_t>(e)]);
    gate_up.parts.push_back({expert + ".gate_proj.weight", 2 * e * size, in});
    gate_up.parts.push_back(
        {expert + ".up_proj.weight", (2 * e + 1) * size, in});
    down.parts.push_back({expert + ".down_proj.weight", e * size, out});
  }
  gate_up_ = &set.add(std::move(gate_up));
  down_ = &set.add(std::move(down));
}

void Experts::expand(Chunk& chunk, TensorView x, TensorView offsets,
                     Saved& saved, Arena& keep) const {
  saved.gate_up =
      keep.allocate(chunk.compute(), {x.size(0), 2 * intermediate_});
  chunk.kernels()(GroupedGemm{.a = x,
                              .b = gate_up_->weight(),
                              .c = saved.gate_up,
                              .offsets = offsets,
                              .transpose_b = true});
}

void Experts::forward(Chunk& chunk, TensorView x, TensorView offsets,
                      TensorView y, Saved& saved, Arena& keep) const {
  expand(chunk, x, offsets, saved, keep);
  const ArenaScope scope(chunk.scratch);
  const TensorView activation =
      chunk.temporary(chunk.compute(), {x.size(0), intermediate_});
  chunk.kernels()(SwiGlu{.gate_up = saved.gate_up, .out = activation});
  chunk.kernels()(GroupedGemm{.a = activation,
                              .b = down_->weight(),
                              .c = y,
                              .offsets = offsets,
                              .transpose_b = true});
}

void Experts::backward(Chunk& chunk, TensorView x, TensorView offsets,
                       const Saved& saved, TensorView weight, TensorView d_y,
                       TensorView d_activation, TensorView d_x,
                       TensorView d_weight, Terms& terms) const {
  chunk.kernels()(GroupedGemm{
      .a = d_y, .b = down_->weight(), .c = d_activation, .offsets = offsets});
  // <d_y, y> = <down^T d_y, activation>: no expert output needs to be kept.
  chunk.kernels()(SwiGluGradient{.gate_up = saved.gate_up,
                                 .d_out = d_activation,
                                 .weight = weight,
                                 .d_gate_up = saved.gate_up,
                                 .activation = d_activation,
                                 .d_weight = d_weight});
  chunk.kernels()(GroupedGemm{.a = saved.gate_up,
                              .b = gate_up_->weight(),
                              .c = d_x,
                              .offsets = offsets});
  terms.down.push_back({.a = d_y, .b = d_activation, .offsets = offsets});
  terms.gate_up.push_back({.a = saved.gate_up, .b = x, .offsets = offsets});
}

void Experts::add_gradients(Chunk& chunk, Terms& terms) const {
  chunk.kernels()(
      GroupedGemmGradient{.parts = terms.down, .c = down_->gradient()});
  chunk.kernels()(
      GroupedGemmGradient{.parts = terms.gate_up, .c = gate_up_->gradient()});
  terms.clear();
}

}  // namespace catena
