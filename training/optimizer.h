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
/// expert, on the ranks that hold it. What has the same replicas and lies side
/// by side (ParameterBlock; of experts, a section) is a *bucket*: one sum of
/// gradients, one gathering of weights. Each replica owns a run of its elements
/// (ZeRO-1, arXiv 1910.02054, section 5.1): it keeps the moments of that run
/// alone, gets the sum of its gradients over the replicas, moves it, and sends
/// it to the others: in the type that products read, so where that is a rounded
/// copy, a master is current where it is owned alone.
///   take(...) for each group during backward;
///   sum_gradients();  gradient_norm();  update(...)
class Optimizer final : public GradientTaker {
 public:
  /// `ranks`: null for one rank. Borrowed.
  Optimizer(ParameterSet& parameters, const OptimizerConfig& config,
            Ranks* ranks = nullptr);

  /// Begins to sum a group's gradients over replicas. Not twice before
  /// sum_gradients().
  void take(std::size_t group) override;
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

  /// Elements in a row.
  struct Run {
    std::int64_t begin = 0, count = 0;
  };
  /// Sections: what a bucket holds of a parameter. In the same order on all
  /// replicas.
  [[nodiscard]] std::size_t sections() const { return sections_.size(); }
  [[nodiscard]] std::size_t parameter(std::size_t i) const {
    return sections_[i].parameter;
  }
  /// Elements of that parameter that are in section i.
  [[nodiscard]] Run section(std::size_t i) const { return sections_[i].all; }
  /// Those that this rank owns; there may be none.
  [[nodiscard]] Run run(std::size_t i) const { return run(i, bucket(i).rank); }
  /// Moments of that run, [count] W: first, and second (of squares).
  [[nodiscard]] TensorView first(std::size_t i) const {
    return sections_[i].first.view();
  }
  [[nodiscard]] TensorView second(std::size_t i) const {
    return sections_[i].second.view();
  }
  /// Brings masters to all replicas of them, so that each holds them whole.
  /// Every rank calls it, before masters are read.
  void gather_masters();
  /// Brings both moments of section i, whole, to its first replica: to host
  /// memory of [count] W each; null on the others. Every replica calls it, for
  /// its sections in order.
  void gather_moments(std::size_t i, std::byte* first, std::byte* second) const;
  /// Whether this rank is the first replica of section i.
  [[nodiscard]] bool writes(std::size_t i) const { return bucket(i).rank == 0; }

 private:
  /// Elements of a block that the same ranks hold.
  struct Bucket {
    const ParameterBlock* block = nullptr;
    Run all;
    Communicator* replicas = nullptr;  ///< null: this rank alone
    std::size_t rank = 0;
    std::vector<Run> runs;             ///< of the block; a replica's own
    std::vector<std::int64_t> counts;  ///< of these
    Run rounded, wide;  ///< what products read as copies, and the rest
  };
  struct Section {
    std::size_t parameter = 0, bucket = 0;
    std::int64_t begin = 0;  ///< of the parameter, in the block
    Run all;
    Tensor first, second;
  };
  void add_bucket(const ParameterBlock& block, Run all, Communicator* replicas);
  void add_sections();
  [[nodiscard]] const Bucket& bucket(std::size_t i) const {
    return buckets_[sections_[i].bucket];
  }
  /// Elements of section i that a replica owns.
  [[nodiscard]] Run run(std::size_t i, std::size_t replica) const;
  [[nodiscard]] TensorView own(std::size_t i, TensorView whole) const;
  /// Calls issue(bucket) for all that have these replicas, in the order of
  /// take(): of one set's ranks, some may have further sets, and issue later.
  template <class Issue>
  void issue_all(const Communicator* replicas, const Issue& issue);
  /// The same with one set of an expert's replicas after another, and waits
  /// for each: they share lanes.
  template <class Issue>
  void issue_in_turn(const Issue& issue);
  void wait_for_all();
  [[nodiscard]] static Pending sum(const Bucket& bucket);
  /// Begins to bring these elements of a bucket to all replicas.
  void gather(const Bucket& bucket, Phase phase, TensorView block,
              Run elements);
  void gather_weights(const Bucket& bucket);

  ParameterSet* parameters_;
  OptimizerConfig config_;
  Ranks* ranks_;
  std::vector<Bucket> buckets_;
  std::vector<Section> sections_;
  std::vector<Pending> pending_, pending_of_set_;
  std::vector<Communicator::Part> parts_;  ///< of one gathering
  Tensor squares_;                         ///< [sections] float64
  std::vector<double> squares_here_;       ///< the same, on the host
};

}  // namespace catena
