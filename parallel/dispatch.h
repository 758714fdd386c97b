#pragma once

#include "parallel/pipeline.h"
#include "runtime/arena.h"

namespace catena {

/// Who gets which row, for one routing of one chunk. Views into the arena it
/// was planned in.
struct DispatchPlan {
  std::int64_t tokens = 0, top_k = 0, experts = 0;
  std::int64_t received = 0;  ///< rows that reach this rank's experts
  TensorView offsets;  ///< [experts + 1] int32: an expert's rows, expert-major
  TensorView place;    ///< [tokens, top_k] int32: received row of each choice
  TensorView entry;    ///< [received] int32: choice (token * top_k + slot)
  TensorView row;      ///< [received] int32: token of each received row
};

/// Brings tokens to the experts they chose, and results back. On one rank
/// every exchange is a copy, and every Pending is ready at once; with several,
/// the same calls put rows on the wire.
///
///   plan      [tokens, top_k] choices -> plan
///   dispatch  received[r] = x[row[r]],  received_weight[r] = weight[entry[r]]
///   combine   out[t] (+)= sum_j weight[t, j] * result[place[t, j]]
///                         (+ residual[t])
/// and their adjoints
///   combine_gradient   d_result[r] = d_out[row[r]]     (before the weight)
///   dispatch_gradient  d_x[t] (+)= sum_j d_received[place[t, j]]
///                                  (+ residual[t]),
///                      d_weight[t, j] = d_received_weight[place[t, j]]
/// Order: an expert's rows keep the order of tokens; sums run over j ascending.
/// Ownership: all views are borrowed until the Pending is ready.
/// Source: arXiv 2506.18945, section 2.2 (one such exchange per iteration).
class Dispatch {
 public:
  explicit Dispatch(Kernels& kernels) : kernels_(&kernels) {}

  /// index [tokens, top_k] int32. The plan's views come from `arena`.
  [[nodiscard]] DispatchPlan plan(TensorView index, std::int64_t experts,
                                  Arena& arena) const;

  /// x [tokens, hidden] T, weight [tokens, top_k] W;
  /// received [plan.received, hidden] T, received_weight [plan.received] W.
  Pending dispatch(const DispatchPlan& plan, TensorView x, TensorView weight,
                   TensorView received, TensorView received_weight) const;

  /// result [plan.received, hidden] T, out [tokens, hidden] T; residual as
  /// out, or undefined.
  Pending combine(const DispatchPlan& plan, TensorView result,
                  TensorView weight, TensorView out, bool accumulate,
                  TensorView residual = {}) const;

  Pending combine_gradient(const DispatchPlan& plan, TensorView d_out,
                           TensorView d_result) const;

  /// d_received_weight [plan.received] W, d_weight [tokens, top_k] W.
  Pending dispatch_gradient(const DispatchPlan& plan, TensorView d_received,
                            TensorView d_received_weight, TensorView d_x,
                            bool accumulate, TensorView residual,
                            TensorView d_weight) const;

 private:
  Kernels* kernels_;
};

}  // namespace catena
