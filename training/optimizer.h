#pragma once

#include <cstdint>
#include <vector>

#include "layers/parameter.h"
#include "parallel/mesh.h"

namespace catena {

/// `[optimizer]`.
struct OptimizerConfig {
  double beta1 = 0.9, beta2 = 0.95, epsilon = 1e-8, weight_decay = 0.01;
  std::string decay = "all";  ///< all | matrices
  double clip = 1;            ///< 0: off
};

/// AdamW over a model's parameters, with moments of its own. A parameter
/// whose gradient is zero (an expert never chosen) still decays.
///
/// With several ranks a parameter has replicas: on all ranks, or, of an
/// expert, on the ranks that hold it. So it is cut into *sections*, each of
/// which has one set of replicas (most parameters are one). Each replica owns
/// a run of the section's elements (ZeRO-1, arXiv 1910.02054, section 5.1): it
/// keeps the moments of that run alone, gets the sum of its gradients over the
/// replicas, moves it, and sends it to the others.
///   take(...) for each group during backward;
///   sum_gradients();  gradient_norm();  update(...)
class Optimizer final : public GradientTaker {
 public:
  /// `ranks`: null for one rank. Borrowed.
  Optimizer(ParameterSet& parameters, const OptimizerConfig& config,
            Ranks* ranks = nullptr);

  /// Begins to sum these gradients over replicas. The last parameter comes
  /// first, as in backward. Not twice before sum_gradients().
  void take(std::size_t begin, std::size_t end) override;
  /// Ends the sums, after all gradients were taken: then own runs are whole,
  /// the rest of a gradient means nothing.
  void sum_gradients();

  /// L2 norm over all gradients of all ranks, each element once, formed in
  /// float64. The same bits on every rank.
  [[nodiscard]] double gradient_norm();

  /// What gradients must be multiplied by so that their norm is at most
  /// config.clip: clip / (norm + 1e-6) where that is below 1.
  [[nodiscard]] double clip_scale(double norm) const;

  /// Updates every parameter with gradient * scale, renews rounded copies and
  /// clears gradients. `step` counts from 1.
  void update(double rate, double scale, std::int64_t step);

  /// Sections, in the order of parameters and, in these, of elements.
  [[nodiscard]] std::size_t sections() const { return shares_.size(); }
  /// Elements of the parameter that section i is of.
  struct Run {
    std::int64_t begin = 0, count = 0;
  };
  [[nodiscard]] std::size_t parameter(std::size_t i) const {
    return shares_[i].parameter;
  }
  [[nodiscard]] Run section(std::size_t i) const { return shares_[i].all; }
  /// Those that this rank owns.
  [[nodiscard]] Run run(std::size_t i) const {
    return shares_[i].runs[shares_[i].rank];
  }
  /// Moments of that run, [count] W: first, and second (of squares).
  [[nodiscard]] TensorView first(std::size_t i) const {
    return shares_[i].first.view();
  }
  [[nodiscard]] TensorView second(std::size_t i) const {
    return shares_[i].second.view();
  }
  /// Brings both moments of section i, whole, to its first replica: to host
  /// memory of [count] W each; null on the others. Every replica calls it, for
  /// its sections in order.
  void gather_moments(std::size_t i, std::byte* first, std::byte* second) const;
  /// Whether this rank is the first replica of section i.
  [[nodiscard]] bool writes(std::size_t i) const {
    return shares_[i].rank == 0;
  }

 private:
  /// What ranks share of a section: the elements that each replica owns.
  struct Share {
    std::size_t parameter = 0;
    Run all;
    Communicator* replicas = nullptr;  ///< null: this rank alone
    std::size_t rank = 0;
    std::vector<Run> runs;
    std::vector<std::int64_t> counts;
    std::vector<Communicator::Part> parts;  ///< of the master
    Tensor first, second;
  };
  [[nodiscard]] Share make_share(std::size_t parameter, Run all,
                                 Communicator* replicas) const;
  [[nodiscard]] TensorView own(std::size_t i, TensorView whole) const;
  /// Calls issue(share) for all that have these replicas.
  template <class Issue>
  void issue_all(const Communicator* replicas, const Issue& issue);
  /// The same with one set of an expert's replicas after another, and waits
  /// for each: they share lanes.
  template <class Issue>
  void issue_in_turn(const Issue& issue);
  void wait_for_all();
  [[nodiscard]] Pending sum(const Share& share) const;
  void gather_masters();

  ParameterSet* parameters_;
  OptimizerConfig config_;
  Ranks* ranks_;
  std::vector<Share> shares_;
  std::vector<Pending> pending_, pending_of_set_;
  Tensor squares_;                    ///< [sections] float64
  std::vector<double> squares_here_;  ///< the same, on the host
};

}  // namespace catena
