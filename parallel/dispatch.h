#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "parallel/crossing.h"
#include "parallel/mesh.h"
#include "parallel/pipeline.h"
#include "parallel/row_exchange.h"
#include "runtime/arena.h"

namespace catena {

/// The copies that reach this rank's experts together. Views into the arenas
/// it was made with; vectors keep their memory.
struct DispatchRound {
  std::int64_t number = 0;  ///< which of DispatchPlan::rounds
  std::int64_t guests = 0;  ///< copies that reach this rank's experts
  std::int64_t rows = 0;    ///< their choices that these experts serve

  TensorView offsets;  ///< [held experts + 1] int32: an expert's rows
  TensorView place;    ///< [guests, top_k] int32: row of each choice, or -1
  TensorView entry;    ///< [rows] int32: choice (guest * top_k + slot); while
                       ///< received
  TensorView row;      ///< [rows] int32: guest of each row

  TensorView received;         ///< [rows, hidden] T: what the experts work on
  TensorView received_weight;  ///< [rows] W

  RowRuns runs;  ///< with several ranks: copies to, guests from each

  // Under way.
  TensorView x, d, weight;  ///< [guests, ...]; on one rank, of the tokens
  TensorView index;  ///< [guests, top_k] int32: experts, -1 if not served here
  Pending index_sent, weight_sent;
};

/// Who gets which row, for one routing of one chunk.
///
/// With several ranks a token goes as one copy to every rank that serves at
/// least one of its experts. Where ranks cross nodes first, *tokens* are here
/// what a relay took in (parallel/crossing.h), and ranks those of its node:
/// group is Ranks::node(). Copies on their way out are ordered by rank, then
/// by token; a rank's *guests* are the copies it gets, ordered by the rank they
/// come from, its own tokens among them. On one rank every token is a guest
/// once.
///
/// A rank whose guests have more rows than DispatchRules::row_budget takes them
/// in rounds: a copy belongs to the round in which its first row falls. Each
/// rank, on other nodes too, has as many rounds as the one with the most; in
/// some it gets none.
struct DispatchPlan {
  std::int64_t tokens = 0, top_k = 0;
  DType compute = DType::kFloat32;  ///< of activations
  std::int64_t rounds = 1;
  DispatchRound main;     ///< round 0, whose rows last until backward
  CrossingPlan crossing;  ///< where nodes are crossed first

  // With several ranks only. m = min(top_k, ranks of the group).
  TensorView copied;    ///< [copies] int32: token of each copy
  TensorView returned;  ///< [tokens, m] int32: the token's copies, or -1
  TensorView chosen;    ///< [tokens, top_k] int32: copy * top_k + slot
  /// [ranks, rounds] int32, with several rounds: copies to, and guests from
  /// each rank up to the end of each round.
  TensorView sent_ends, received_ends;
  std::vector<std::int64_t> copies;  ///< to each rank
  std::vector<std::int64_t> coming;  ///< from each rank
  ModelledCounts modelled;           ///< on meta, where these come from

  // Under way.
  Tag tag;
  Pending crossed;  ///< the way of tokens, or gradients, between nodes
  TensorView x, index, weight, d;  ///< of the tokens
  TensorView kept;                 ///< [copies, top_k] int32: experts, or -1
  TensorView before;               ///< [copies] int32: rows of earlier ones
  /// [homes, 2, ranks] int32: copies and rows that each rank of all nodes
  /// sends to those of its own.
  TensorView counts;
  TensorView back, back_weight;     ///< what returns: [copies, ...]
  std::vector<std::int32_t> table;  ///< counts, on the host
  std::vector<Communicator::Part> send, receive;  ///< while one is issued
};

/// Brings tokens to the experts they chose, and results back. Each exchange is
/// begun by one call, which packs and returns a Pending, and ended by another:
///
///   plan                            how many copies go where, in what rounds
///   dispatch, receive               received[r] = x[token of r]
///   combine, add_results            out[t] (+)= sum_j weight[t, j] result[j]
///                                               (+ residual[t])
/// and their adjoints
///   plan_gradient                   what leads d_out to the experts
///   combine_gradient, receive_gradient   d_result[r] = d_out[token of r]
///                                        (before the weight)
///   dispatch_gradient, add_gradients     d_x[t] (+)= sum_j d_received[j]
///                                                   (+ residual[t]),
///                                        d_weight[t, j]
/// Where crosses(), plan and plan_gradient begin the way between nodes, which
/// is awaited (DispatchPlan::crossed) before any dispatch, and return_results
/// and return_gradients begin the way home, before the adding. What takes a
/// DispatchRound is done for every round, and the adding after all of them. The
/// rows of round 0 may last until backward. Those of later rounds are given up
/// as soon as their results are on the way; in backward they are dispatched and
/// received again, before their gradients. So memory is bounded by the budget,
/// whatever the routing.
///
/// On one rank every exchange is a copy, every Pending ready at once, and
/// there is one round: rows are tokens * top_k, whatever the routing.
/// Order: an expert's rows of one round are ordered by the rank of their home
/// (with crossing: the relay, then the home's node), then by token. A rank sums
/// the rows of its own experts, j ascending, and rounds to the type on the wire
/// (DispatchRules); a token's home adds these sums in the order of ranks; with
/// crossing, each relay those of its node, rounded so again, and the home those
/// of the relays. What a rank sends to itself is of the same types. No copy is
/// split: rounds do not change a bit of any sum but that of the experts' own
/// gradients. Ownership: views are borrowed until the adding call, in the
/// plan's case until that of the gradients. `scratch` gives buffers that must
/// last until then; those of one round, until its results or gradients are on
/// their way. Source: arXiv 2506.18945, section 2.2 (one such exchange per
/// iteration).
class Dispatch {
 public:
  /// `ranks`: null for one rank. `tag` says which layer and chunk this is for.
  /// What is sent is packed into `wire` (null: into `scratch`), where it must
  /// last as in `scratch`.
  Dispatch(Kernels& kernels, Ranks* ranks, const Tag& tag,
           Arena* wire = nullptr)
      : kernels_(&kernels),
        ranks_(ranks != nullptr && ranks->expert().size() > 1 ? ranks
                                                              : nullptr),
        tag_(tag),
        wire_(wire) {}

  /// Whether tokens cross nodes before they are dispatched.
  [[nodiscard]] bool crosses() const {
    return ranks_ != nullptr && ranks_->rail() != nullptr;
  }

  /// x [tokens, hidden] T, index [tokens, top_k] int32, weight [tokens, top_k]
  /// W. The plan's own views come from `keep`. Frames come from `frames`.
  Task plan(FrameMemory& frames, TensorView x, TensorView index,
            TensorView weight, std::int64_t experts, std::int64_t iteration,
            Arena& keep, Arena& scratch, DispatchPlan& plan) const&;
  /// The task is this object's: one that ends before it will not do.
  template <class... Any>
  Task plan(Any&&...) const&& = delete;

  /// Of the round that round.number says.
  [[nodiscard]] Pending dispatch(DispatchPlan& plan, DispatchRound& round,
                                 Arena& scratch) const;
  /// Makes round.received and round.received_weight, in `keep`.
  void receive(const DispatchPlan& plan, DispatchRound& round, Arena& keep,
               Arena& scratch) const;

  /// result [round.rows, hidden] T.
  [[nodiscard]] Pending combine(DispatchPlan& plan, DispatchRound& round,
                                TensorView result, Arena& scratch) const;
  /// Where crosses(), after all rounds: nodes' sums, on their way home.
  [[nodiscard]] Pending return_results(DispatchPlan& plan,
                                       Arena& scratch) const;
  /// out [tokens, hidden] T; residual as out, or undefined. `result`: of round
  /// 0.
  void add_results(DispatchPlan& plan, TensorView result, TensorView out,
                   bool accumulate, TensorView residual) const;

  /// d_out [tokens, hidden] T.
  void plan_gradient(DispatchPlan& plan, TensorView d_out,
                     Arena& scratch) const;
  /// Before later rounds are dispatched again, where there are any.
  void plan_later(DispatchPlan& plan, Arena& scratch) const;
  [[nodiscard]] Pending combine_gradient(DispatchPlan& plan,
                                         DispatchRound& round,
                                         Arena& scratch) const;
  /// d_result [round.rows, hidden] T.
  void receive_gradient(const DispatchRound& round, TensorView d_result) const;

  /// d_received [round.rows, hidden] T, d_received_weight [round.rows] W.
  [[nodiscard]] Pending dispatch_gradient(DispatchPlan& plan,
                                          DispatchRound& round,
                                          TensorView d_received,
                                          TensorView d_received_weight,
                                          Arena& scratch) const;
  /// As return_results().
  [[nodiscard]] Pending return_gradients(DispatchPlan& plan,
                                         Arena& scratch) const;
  /// d_weight [tokens, top_k] W. `d_received`, `d_received_weight`: of round 0.
  void add_gradients(DispatchPlan& plan, TensorView d_received,
                     TensorView d_received_weight, TensorView d_x,
                     bool accumulate, TensorView residual,
                     TensorView d_weight) const;

 private:
  /// A relay adds what the ranks of its node return, and sends it home.
  [[nodiscard]] Pending return_sums(DispatchPlan& plan, Phase phase,
                                    Arena& scratch) const;
  /// Counts copies and rows, and lists copies.
  void partition(DispatchPlan& plan, Arena& scratch) const;
  /// From all ranks' counts: copies, coming, rounds.
  void read_counts(DispatchPlan& plan) const;
  /// Where rounds end among this rank's copies to each rank.
  void cut_rounds(DispatchPlan& plan) const;
  /// Rows that the first `homes` ranks of a node send to its `rank`.
  [[nodiscard]] std::int64_t rows_to(const DispatchPlan& plan, int node,
                                     int rank, int homes) const;
  /// Of the tokens as they are at home, or as a relay took them in.
  Task spread(FrameMemory& frames, Arena& keep, Arena& scratch,
              DispatchPlan& plan) const;
  static void take(DispatchPlan& plan, const Crossing::Guests& guests);
  /// A round's counts and places; its guests.
  void enter(const DispatchPlan& plan, DispatchRound& round) const;
  /// On meta there is no routing: Ranks may know one, else what a balanced one
  /// gives is expected, or the most that any one can.
  [[nodiscard]] bool modelled() const;
  void model(DispatchPlan& plan) const;
  void expect_balanced(DispatchPlan& plan) const;
  void expect_worst(DispatchPlan& plan) const;

  /// Sorts guests by expert, and makes room for their rows.
  void sort(TensorView index, std::int64_t experts, std::int64_t rows,
            Arena& keep, Arena& scratch, DispatchRound& round) const;
  [[nodiscard]] RowExchange exchange(const DispatchPlan& plan,
                                     Phase phase) const {
    return {*kernels_, ranks_->node(), tag(plan, phase), wire_};
  }
  [[nodiscard]] Crossing crossing(const DispatchPlan& plan) const {
    return {*kernels_, *ranks_, plan.tag, wire_};
  }
  [[nodiscard]] Tag tag(const DispatchPlan& plan, Phase phase) const;

  Kernels* kernels_;
  Ranks* ranks_;
  Tag tag_;
  Arena* wire_;
};

}  // namespace catena
