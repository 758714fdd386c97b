#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "layers/model.h"

namespace catena {

/// The experts that every token of some steps chose, in every layer and
/// iteration, and by how much: what is written down once can be replayed
/// under another layout. Tokens are numbered within their batch.
/// Thread rule: different tokens may be written by different threads.
class RouteTrace {
 public:
  RouteTrace() = default;
  /// tokens[s]: of step s.
  RouteTrace(const ModelConfig& model, const std::vector<std::int64_t>& tokens);

  /// [top_k] experts of a token; further tokens follow.
  [[nodiscard]] std::int32_t* experts(std::int64_t step, std::int64_t layer,
                                      std::int64_t iteration,
                                      std::int64_t token) {
    return experts_.data() + at(step, layer, iteration, token) * top_k_;
  }
  /// All of a step: [layers, iterations, tokens, top_k].
  [[nodiscard]] std::span<std::int32_t> of_step(std::int64_t step);
  /// How far the last choice lies above the first that was not made, in
  /// scores.
  [[nodiscard]] double* margin(std::int64_t step, std::int64_t layer,
                               std::int64_t iteration, std::int64_t token) {
    return margins_.data() + at(step, layer, iteration, token);
  }
  [[nodiscard]] std::int64_t top_k() const { return top_k_; }
  /// Tokens times layers times iterations, over all steps.
  [[nodiscard]] std::int64_t routings() const {
    return static_cast<std::int64_t>(margins_.size());
  }

  /// Routings whose set of experts differs, and the largest margin, in this
  /// trace, of one that does.
  struct Flips {
    std::int64_t count = 0;
    double largest_margin = 0;
  };
  [[nodiscard]] Flips flips(const RouteTrace& other) const;

 private:
  [[nodiscard]] std::size_t at(std::int64_t step, std::int64_t layer,
                               std::int64_t iteration,
                               std::int64_t token) const;

  std::int64_t layers_ = 0, iterations_ = 0, top_k_ = 1;
  std::vector<std::int64_t> begins_, tokens_;
  std::vector<std::int32_t> experts_;
  std::vector<double> margins_;
};

/// Writes a trace, and, given one, replays another. For chunks on the CPU.
class RouteTracer : public Observer {
 public:
  /// `replay` may be null. Borrows both.
  RouteTracer(RouteTrace& record, RouteTrace* replay)
      : record_(&record), replay_(replay) {}
  void set_step(std::int64_t step) { step_ = step; }

  TensorView forced_routes(const Chunk& chunk, std::int64_t layer,
                           std::int64_t iteration) override;
  void routed(const Chunk& chunk, std::int64_t layer, std::int64_t iteration,
              const Routed& routes) override;

 private:
  RouteTrace* record_;
  RouteTrace* replay_;
  std::int64_t step_ = 0;
};

}  // namespace catena
