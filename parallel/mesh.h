#pragma once

#include <memory>
#include <vector>

#include "parallel/communicator.h"
#include "parallel/placement.h"
#include "runtime/backend.h"

namespace catena {

/// How ranks are arranged: `data` groups of `expert` ranks. Each group holds
/// all experts once (or more often, by its placement); ranks r with the same
/// r % expert hold the same ones. Every rank has tokens of its own, and all
/// other weights.
struct Mesh {
  int world = 1, expert = 1;

  [[nodiscard]] int data() const { return world / expert; }
  /// Ranks of the expert group that `rank` is in.
  [[nodiscard]] std::vector<int> expert_group(int rank) const;
  /// Ranks that hold the same experts as `rank`.
  [[nodiscard]] std::vector<int> replicas(int rank) const;
};

/// Throws: Config, if ranks do not divide into groups, or a group has more
/// ranks than there are experts.
[[nodiscard]] Mesh make_mesh(int world, int expert, std::int64_t experts);

/// One rank among the ranks of a run: where it stands, and whom it exchanges
/// what with. While the backend's kernels run, what is under way moves on.
/// Borrows transport and backend. Thread rule: one thread.
class Ranks final : public Background {
 public:
  Ranks(Transport& transport, Backend& backend, const Mesh& mesh,
        const Placement& placement, Communicator::Deadline deadline);
  ~Ranks() override { backend_->set_background(nullptr); }
  Ranks(const Ranks&) = delete;
  Ranks& operator=(const Ranks&) = delete;

  [[nodiscard]] const Mesh& mesh() const { return mesh_; }
  [[nodiscard]] int rank() const { return world_.transport().rank(); }
  [[nodiscard]] int size() const { return mesh_.world; }
  [[nodiscard]] const Placement& placement() const { return placement_; }
  [[nodiscard]] Backend& backend() const { return *backend_; }

  /// All ranks; those that share experts; those that hold the same ones.
  [[nodiscard]] Communicator& world() { return world_; }
  [[nodiscard]] Communicator& expert() { return expert_; }
  [[nodiscard]] Communicator& replicas() { return replicas_; }

  /// Moves on what is under way.
  void advance() override;

  /// Of all three, since it was last taken.
  [[nodiscard]] Traffic take_traffic();
  /// Choices that reach the busiest rank of a group, over their mean, where
  /// load[e] choose expert e; replicas share evenly.
  [[nodiscard]] double load_max_to_mean(std::span<const double> load) const;

  /// The experts of this rank, ascending.
  [[nodiscard]] std::span<const std::int64_t> held() const {
    return placement_.held(expert_.rank());
  }
  /// [experts] int32: the place in the group of the rank that serves this
  /// rank's tokens; the number among held(), or -1.
  [[nodiscard]] TensorView server() const { return server_.view(); }
  [[nodiscard]] TensorView local() const { return local_.view(); }

 private:
  Backend* backend_;
  Mesh mesh_;
  Placement placement_;
  Communicator world_, expert_, replicas_;
  Tensor server_, local_;
};

}  // namespace catena
