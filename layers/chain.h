#pragma once

#include <memory>
#include <vector>

#include "layers/experts.h"
#include "layers/router.h"
#include "parallel/dispatch.h"

namespace catena {

/// The chain of experts of one layer. With x0 the normalised stream:
///
///   x[t+1] = sum over i in top_k(t) of w[t, i] E_i(x[t]) + S(x[t])
///            (+ x[t] with the inner residual),   t = 0 .. iterations - 1
///
/// Experts E and shared experts S are the same in every iteration; each
/// iteration has a router of its own, or all share one. One iteration is a
/// mixture of experts.
/// Source: arXiv 2506.18945, section 2.2, eq. 4-7; where the published code
/// differs from the text, the code stands.
class Chain {
 public:
  /// What backward needs of one iteration.
  struct Iteration {
    TensorView x;  ///< [tokens, hidden]: the iteration's input
    Router::Saved routes;
    DispatchPlan plan;
    Experts::Saved experts;
    SwiGluMlp::Saved shared;
  };
  struct Saved {
    std::vector<Iteration> iterations;
    Experts::Terms terms;
    // Of the rows beyond the budget: one round's at a time.
    DispatchRound later;
    Experts::Saved later_experts;
    Experts::Terms later_terms;
  };

  /// `ranks`: who shares the experts; null for one rank. Borrowed.
  Chain(ParameterSet& set, const std::string& name, const ModelConfig& config,
        std::int64_t layer, Ranks* ranks);

  /// x [tokens, hidden] T -> out [tokens, hidden] T.
  /// `layer` counts chain layers, as statistics do.
  Task forward(Chunk& chunk, TensorView x, TensorView out,
               const RoutingStatistics& statistics, Saved& saved) const;
  /// d_out [tokens, hidden] is used up; d_x is overwritten, and may be d_out.
  Task backward(Chunk& chunk, const RoutingStatistics& statistics, Saved& saved,
                TensorView d_out, TensorView d_x) const;

  [[nodiscard]] Router& router(std::int64_t iteration) {
    return *routers_[routers_.size() == 1
                         ? 0
                         : static_cast<std::size_t>(iteration)];
  }
  [[nodiscard]] const Router& router(std::int64_t iteration) const {
    return *routers_[routers_.size() == 1
                         ? 0
                         : static_cast<std::size_t>(iteration)];
  }
  [[nodiscard]] std::int64_t routers() const {
    return static_cast<std::int64_t>(routers_.size());
  }
  [[nodiscard]] const std::string& name() const { return name_; }

 private:
  [[nodiscard]] Dispatch exchange(Chunk& chunk) const;
  /// The rounds after the first: their results are on their way home when the
  /// task ends, and nothing of them is kept.
  Task forward_later(Chunk& chunk, const Dispatch& exchange, DispatchPlan& plan,
                     Saved& saved) const;
  /// Dispatches these again, takes up what the experts computed, and adds the
  /// experts' own gradients at once.
  Task backward_later(Chunk& chunk, const Dispatch& exchange,
                      DispatchPlan& plan, Saved& saved) const;

  std::string name_;
  ChainConfig config_;
  std::int64_t hidden_, layer_;
  Ranks* ranks_;
  std::vector<std::unique_ptr<Router>> routers_;
  std::unique_ptr<Experts> experts_;
  std::unique_ptr<SwiGluMlp> shared_;
};

}  // namespace catena
