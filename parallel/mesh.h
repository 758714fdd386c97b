#pragma once

#include <memory>
#include <vector>

#include "parallel/communicator.h"
#include "parallel/dispatch_rules.h"
#include "parallel/modelled_routing.h"
#include "parallel/placement.h"
#include "parallel/wire_memory.h"
#include "runtime/backend.h"

namespace catena {

/// How ranks are arranged: `data` groups of `expert` ranks. Each group holds
/// all experts once (or more often, by its placement); ranks r with the same
/// r % expert hold the same ones. Every rank has tokens of its own, and all
/// other weights.
struct Mesh {
  int world = 1, expert = 1;
  int ranks_per_node = 1;  ///< rank r is on node r / ranks_per_node
  /// A token goes to each node of its group once, and is spread there.
  bool hierarchical = false;

  /// Whether there are nodes to cross so: several of several ranks.
  [[nodiscard]] bool crosses() const {
    return hierarchical && ranks_per_node > 1 && ranks_per_node < expert;
  }
  /// Ranks of a group, or with crossing of its part on one node: those that
  /// rows are dispatched among.
  [[nodiscard]] int node() const { return crosses() ? ranks_per_node : expert; }
  [[nodiscard]] int nodes() const { return expert / node(); }
  /// As Placement::server() takes it.
  [[nodiscard]] int of_node() const { return crosses() ? ranks_per_node : 1; }

  [[nodiscard]] int data() const { return world / expert; }
  /// Ranks of the expert group that `rank` is in.
  [[nodiscard]] std::vector<int> expert_group(int rank) const;
  /// Ranks of all groups, ascending, that stand at one of these places.
  [[nodiscard]] std::vector<int> at_places(std::span<const int> places) const;
};

/// How ranks lie on nodes.
struct Nodes {
  std::int64_t ranks = 0;  ///< of a node; 0, or more than there are: all
  bool hierarchical = false;
};

/// Throws: Config, if ranks do not divide into groups, a group has more ranks
/// than there are experts, or dispatch is to be hierarchical and groups are
/// neither whole nodes nor parts of one.
[[nodiscard]] Mesh make_mesh(int world, int expert, std::int64_t experts,
                             const Nodes& nodes = {});

/// One rank among the ranks of a run: where it stands, and whom it exchanges
/// what with. While the backend's kernels run, what is under way moves on.
/// Borrows transport and backend. Thread rule: one thread.
class Ranks final : public Background {
 public:
  Ranks(Transport& transport, Backend& backend, const Mesh& mesh,
        const Placements& placements, Communicator::Deadline deadline,
        const DispatchRules& rules = {});
  ~Ranks() override { backend_->set_background(nullptr); }
  Ranks(const Ranks&) = delete;
  Ranks& operator=(const Ranks&) = delete;

  [[nodiscard]] const Mesh& mesh() const { return mesh_; }
  [[nodiscard]] int rank() const { return world_.transport().rank(); }
  [[nodiscard]] int size() const { return mesh_.world; }
  [[nodiscard]] const Placements& placements() const { return placements_; }
  [[nodiscard]] Backend& backend() const { return *backend_; }

  /// For what is sent.
  [[nodiscard]] MemorySource& wire_memory() { return wire_memory_; }

  /// All ranks; those that share experts.
  [[nodiscard]] Communicator& world() { return world_; }
  [[nodiscard]] Communicator& expert() { return expert_; }
  /// Of these, the ranks that rows are dispatched among: all, or, where
  /// dispatch crosses nodes first, those of this one's node.
  [[nodiscard]] Communicator& node() { return node_ ? *node_ : expert_; }
  /// Those at this one's place on each node, ascending; null where dispatch
  /// does not cross nodes. Lanes are node()'s: two ranks share at most one.
  [[nodiscard]] Communicator* rail() { return rail_.get(); }
  /// Each set of ranks, this one among them, that hold some expert together.
  /// They share lanes: one of them is at work at a time, in this order.
  [[nodiscard]] std::span<const std::unique_ptr<Communicator>> replica_sets()
      const {
    return replica_sets_;
  }

  void set_rules(const DispatchRules& rules) { rules_ = rules; }
  [[nodiscard]] const DispatchRules& rules() const { return rules_; }
  /// A dispatch took so many rounds after the first, and this rank so many
  /// rows beyond its budget: for take_traffic().
  void count_rounds(std::int64_t later_rounds, std::int64_t rows) {
    later_rounds_ += later_rounds;
    rows_beyond_budget_ += rows;
  }

  /// Moves on what is under way.
  void advance() override;

  /// Of all communicators over the transport, since it was last taken.
  [[nodiscard]] Traffic take_traffic();
  /// Choices that reach the busiest rank of a group, over their mean, where
  /// load[e] choose expert e in `layer`; replicas share evenly.
  [[nodiscard]] double load_max_to_mean(std::int64_t layer,
                                        std::span<const double> load) const;

  /// On meta: where no routing is set, whether sizes are those of a balanced
  /// one, or the most that any routing can make of them on any rank.
  void expect_worst(bool worst) { worst_ = worst; }
  [[nodiscard]] bool expects_worst() const { return worst_; }
  /// On meta: what is sent where; null: nothing is known. Borrowed.
  void set_modelled_routing(ModelledRouting* routing) { modelled_ = routing; }
  [[nodiscard]] ModelledRouting* modelled_routing() const { return modelled_; }

  /// The experts of this rank in `layer`, in the order they are stored in:
  /// those that the same ranks hold lie together, ascending.
  [[nodiscard]] std::span<const std::int64_t> held(std::int64_t layer) const {
    return of(layer).held;
  }
  /// The most that any rank holds of any layer.
  [[nodiscard]] std::int64_t most_held() const { return most_held_; }
  /// A run of held() that the same ranks hold.
  struct HeldRun {
    std::int64_t begin = 0, count = 0;
    Communicator* replicas = nullptr;  ///< one of replica_sets()
  };
  [[nodiscard]] std::span<const HeldRun> runs(std::int64_t layer) const {
    return of(layer).runs;
  }
  /// [experts] int32: the place in node() of the rank that serves this rank's
  /// tokens or, of a relay, its guests, -1 if none of this node does; the node
  /// whose ranks serve its tokens, with rail(); the number among held(), or -1.
  [[nodiscard]] TensorView server(std::int64_t layer) const {
    return of(layer).server.view();
  }
  [[nodiscard]] TensorView node_server(std::int64_t layer) const {
    return of(layer).node_server.view();
  }
  [[nodiscard]] TensorView local(std::int64_t layer) const {
    return of(layer).local.view();
  }

 private:
  /// What a placement means for this rank.
  struct Layer {
    std::vector<std::int64_t> held;
    std::vector<HeldRun> runs;
    Tensor server, node_server, local;
  };
  [[nodiscard]] const Layer& of(std::int64_t layer) const {
    return layers_[layers_.size() == 1 ? 0 : static_cast<std::size_t>(layer)];
  }
  void make_node_and_rail(Communicator::Deadline deadline);
  void make_replica_sets(Communicator::Deadline deadline);
  [[nodiscard]] Layer make_layer(const Placement& placement) const;
  [[nodiscard]] std::vector<int> replicas_of(const Placement& placement,
                                             std::int64_t expert) const;

  Backend* backend_;
  Mesh mesh_;
  Placements placements_;
  WireMemory wire_memory_;
  Communicator world_, expert_;
  std::unique_ptr<Communicator> node_, rail_;  ///< where dispatch crosses nodes
  std::vector<std::unique_ptr<Communicator>> replica_sets_;
  std::vector<Layer> layers_;  ///< as many as placements_
  DispatchRules rules_;
  std::int64_t most_held_;
  std::int64_t later_rounds_ = 0, rows_beyond_budget_ = 0;
  ModelledRouting* modelled_ = nullptr;
  bool worst_ = false;
};

}  // namespace catena
