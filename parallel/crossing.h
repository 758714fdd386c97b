#pragma once

#include <cstdint>

#include "parallel/mesh.h"
#include "parallel/row_exchange.h"

namespace catena {

/// One routing's way between nodes. Of n = ranks.rail()->size() nodes; m =
/// min(top_k, n). Views into the arenas it was made with.
struct CrossingPlan {
  TensorView copied;    ///< [copies] int32: token of each copy
  TensorView returned;  ///< [tokens, m] int32: the token's copies, or -1
  TensorView chosen;    ///< [tokens, top_k] int32: copy * top_k + slot
  RowRuns runs;         ///< copies to, guests from the rail's ranks

  // Under way.
  TensorView x, index, weight;   ///< of the tokens
  TensorView kept;               ///< [copies, top_k] int32: experts, or -1
  TensorView counts;             ///< [3, n] int32: copies to, their choices;
                                 ///< copies from each
  TensorView back, back_weight;  ///< what returns: [copies, ...]
  Pending index_sent, weight_sent, x_sent, d_sent;
  std::vector<std::int32_t> table;  ///< counts, on the host
};

/// Hierarchical dispatch crosses nodes first: a token goes once to every node
/// that serves at least one of its experts, to the rank there that stands at
/// its home's place (these ranks are a *rail*). This *relay* takes the copies,
/// ordered by the node of their home, then by token, for tokens of its own:
/// it dispatches them among the ranks of its node (parallel/dispatch.h), adds
/// what they return in the order of ranks, and sends one row a copy home,
/// which adds those of all nodes in their order. A relay never gets more than
/// nodes x tokens of a rank. The relay of a token on its own node is its home.
/// Source: the two steps of arXiv 2201.05596, section 5.3, with copies that
/// several experts of a node share, as in arXiv 2412.19437, section 3.2.2.
class Crossing {
 public:
  /// `wire`: see RowExchange.
  Crossing(Kernels& kernels, Ranks& ranks, const Tag& tag,
           Arena* wire = nullptr)
      : kernels_(&kernels), ranks_(&ranks), tag_(tag), wire_(wire) {}

  /// From plan.x, index and weight of tokens: how many copies go where, and
  /// once the Pending is ready, read(), how many come.
  [[nodiscard]] Pending count(CrossingPlan& plan, Arena& keep,
                              Arena& scratch) const;
  void read(CrossingPlan& plan) const;

  /// What relays hold, of all guests.
  struct Guests {
    TensorView x;       ///< [guests, hidden]
    TensorView index;   ///< [guests, top_k] int32: -1 if of other nodes
    TensorView weight;  ///< [guests, top_k]
  };
  /// Issues the tokens' way; plan.index_sent, weight_sent and x_sent say when
  /// the guests are there. `type`: of rows on the wire.
  [[nodiscard]] Guests bring(CrossingPlan& plan, DType type,
                             Arena& scratch) const;
  /// The same in backward, when `scratch` of forward is gone.
  [[nodiscard]] Guests bring_again(CrossingPlan& plan, DType type,
                                   Arena& scratch) const;
  /// d [tokens, hidden] -> [guests, hidden] of `type`, by plan.d_sent.
  [[nodiscard]] TensorView bring_gradient(CrossingPlan& plan, TensorView d,
                                          DType type, Arena& scratch) const;
  /// rows [guests, hidden] -> plan.back.
  [[nodiscard]] Pending return_rows(CrossingPlan& plan, Phase phase,
                                    TensorView rows, Arena& scratch) const;
  /// weights [guests, top_k] -> plan.back_weight, by plan.weight_sent.
  void return_weights(CrossingPlan& plan, TensorView weights,
                      Arena& scratch) const;

 private:
  void partition(CrossingPlan& plan, Arena& scratch) const;
  void expect_worst(CrossingPlan& plan) const;
  void expect_balanced(CrossingPlan& plan) const;
  [[nodiscard]] Tag tag(Phase phase) const;
  [[nodiscard]] RowExchange exchange(Phase phase) const {
    return {*kernels_, *ranks_->rail(), tag(phase), wire_};
  }

  Kernels* kernels_;
  Ranks* ranks_;
  Tag tag_;
  Arena* wire_;
};

}  // namespace catena
