#pragma once

#include <vector>

#include "parallel/mesh.h"
#include "parallel/pipeline.h"
#include "runtime/arena.h"

namespace catena {

/// Who gets which row, for one routing of one chunk. Views into the arenas it
/// was made with; vectors keep their memory when the plan is made again.
///
/// With several ranks a token goes as one copy to every rank that serves at
/// least one of its experts. Copies on their way out are ordered by rank, then
/// by token; a rank's *guests* are the copies it gets, ordered by the rank they
/// come from, its own tokens among them. On one rank every token is a guest
/// once.
struct DispatchPlan {
  std::int64_t tokens = 0, top_k = 0;
  std::int64_t guests = 0;  ///< tokens that reach this rank's experts
  std::int64_t rows = 0;    ///< their choices that these experts serve

  TensorView offsets;  ///< [held experts + 1] int32: an expert's rows
  TensorView place;    ///< [guests, top_k] int32: row of each choice, or -1
  TensorView entry;    ///< [rows] int32: choice (guest * top_k + slot)
  TensorView row;      ///< [rows] int32: guest of each row

  TensorView received;         ///< [rows, hidden] T: what the experts work on
  TensorView received_weight;  ///< [rows] W

  // With several ranks only. m = min(top_k, ranks of the group).
  TensorView copied;    ///< [copies] int32: token of each copy
  TensorView returned;  ///< [tokens, m] int32: the token's copies, or -1
  TensorView chosen;    ///< [tokens, top_k] int32: copy * top_k + slot
  std::vector<std::int64_t> out, in;  ///< copies to, guests from each rank

  // Under way.
  Tag tag;
  TensorView x, weight;  ///< of the tokens, on one rank; else of guests
  TensorView index;  ///< [guests, top_k] int32: experts, -1 if not served here
  TensorView back, back_weight;  ///< what returns: [copies, ...]
  Pending index_sent, weight_sent;
  std::vector<Communicator::Part> send, receive;
};

/// Brings tokens to the experts they chose, and results back. Each exchange is
/// begun by one call, which packs and returns a Pending, and ended by another:
///
///   plan                            how many copies go where
///   dispatch, receive               received[r] = x[token of r]
///   combine, add_results            out[t] (+)= sum_j weight[t, j] result[j]
///                                               (+ residual[t])
/// and their adjoints
///   combine_gradient, receive_gradient   d_result[r] = d_out[token of r]
///                                        (before the weight)
///   dispatch_gradient, add_gradients     d_x[t] (+)= sum_j d_received[j]
///                                                   (+ residual[t]),
///                                        d_weight[t, j]
/// On one rank every exchange is a copy, and every Pending ready at once.
/// Order: an expert's rows are ordered by the rank of their home, then by
/// token. A rank sums the rows of its own experts, j ascending, and rounds to
/// T; a token's home adds these sums in the order of ranks.
/// Ownership: views are borrowed until the ending call. `scratch` gives
/// buffers that must last until then.
/// Source: arXiv 2506.18945, section 2.2 (one such exchange per iteration).
class Dispatch {
 public:
  /// `ranks`: null for one rank. `tag` says which layer and chunk this is for.
  Dispatch(Kernels& kernels, Ranks* ranks, const Tag& tag)
      : kernels_(&kernels),
        ranks_(ranks != nullptr && ranks->expert().size() > 1 ? ranks
                                                              : nullptr),
        tag_(tag) {}

  /// index [tokens, top_k] int32, weight [tokens, top_k] W. The plan's own
  /// views come from `keep`. Frames come from `frames`.
  Task plan(FrameMemory& frames, TensorView index, TensorView weight,
            std::int64_t experts, std::int64_t iteration, Arena& keep,
            Arena& scratch, DispatchPlan& plan) const&;
  /// The task is this object's: one that ends before it will not do.
  template <class... Any>
  Task plan(Any&&...) const&& = delete;

  /// x [tokens, hidden] T.
  [[nodiscard]] Pending dispatch(DispatchPlan& plan, TensorView x,
                                 Arena& scratch) const;
  /// Makes plan.received and plan.received_weight, in `keep`.
  void receive(DispatchPlan& plan, Arena& keep) const;

  /// result [plan.rows, hidden] T.
  [[nodiscard]] Pending combine(DispatchPlan& plan, TensorView result,
                                Arena& scratch) const;
  /// out [tokens, hidden] T; residual as out, or undefined.
  void add_results(DispatchPlan& plan, TensorView result, TensorView out,
                   bool accumulate, TensorView residual) const;

  [[nodiscard]] Pending combine_gradient(DispatchPlan& plan, TensorView d_out,
                                         Arena& scratch) const;
  /// d_result [plan.rows, hidden] T.
  void receive_gradient(DispatchPlan& plan, TensorView d_result) const;

  /// d_received [plan.rows, hidden] T, d_received_weight [plan.rows] W.
  [[nodiscard]] Pending dispatch_gradient(DispatchPlan& plan,
                                          TensorView d_received,
                                          TensorView d_received_weight,
                                          Arena& scratch) const;
  /// d_weight [tokens, top_k] W.
  void add_gradients(DispatchPlan& plan, TensorView d_received,
                     TensorView d_received_weight, TensorView d_x,
                     bool accumulate, TensorView residual,
                     TensorView d_weight) const;

 private:
  /// Sorts guests by expert, and makes room for their rows.
  void sort(TensorView index, std::int64_t experts, std::int64_t rows,
            Arena& keep, DispatchPlan& plan) const;
  /// Copies to and guests from each rank, from all ranks' counts.
  void read_counts(TensorView counts, DispatchPlan& plan) const;
  /// On meta there is no routing: Ranks may know one, else what a balanced one
  /// gives is expected.
  [[nodiscard]] bool modelled() const;
  void balanced_counts(DispatchPlan& plan) const;
  /// Copies rows of `x` [tokens, ...] for every rank, and sends them:
  /// guests [guests, ...] is filled, the own part at once.
  Pending send_out(DispatchPlan& plan, Phase phase, TensorView x,
                   TensorView guests, Arena& scratch) const;
  /// The way back: form(guests to form, where) fills a run of guests;
  /// back [copies, ...] is filled.
  template <class Form>
  Pending send_back(DispatchPlan& plan, Phase phase, const Form& form,
                    TensorView back, Arena& scratch) const;
  [[nodiscard]] Tag tag(const DispatchPlan& plan, Phase phase) const;

  Kernels* kernels_;
  Ranks* ranks_;
  Tag tag_;
};

}  // namespace catena
