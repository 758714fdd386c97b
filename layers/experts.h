#pragma once

#include <vector>

#include "layers/chunk.h"
#include "layers/model_config.h"
#include "parallel/mesh.h"

namespace catena {

/// The routed experts: SwiGLU MLPs of one shape, as grouped products.
///   y[r] = down_e (silu(gate_e x[r]) * up_e x[r]) for the rows r of expert e
///   x, y [rows, hidden] T, expert-major;  offsets [experts + 1] int32
/// Stored as gate_up [experts, 2 * intermediate, hidden] and
/// down [experts, hidden, intermediate], so that one expert's projections are
/// contiguous runs under their own checkpoint names.
class Experts {
 public:
  struct Saved {
    TensorView gate_up;  ///< [rows, 2 * intermediate]
  };
  /// Those that `ranks` says this rank holds in `layer` (of those with a
  /// chain, from 0); all of them where it is null.
  Experts(ParameterSet& set, const std::string& name, const ModelConfig& config,
          std::int64_t layer, const Ranks* ranks);

  /// `saved` comes from `keep`.
  void forward(Chunk& chunk, TensorView x, TensorView offsets, TensorView y,
               Saved& saved, Arena& keep) const;
  /// The part of forward() that backward() needs.
  void expand(Chunk& chunk, TensorView x, TensorView offsets, Saved& saved,
              Arena& keep) const;

  /// Operands of the experts' gradients, an entry for each backward().
  struct Terms {
    std::vector<GroupedGemmGradient::Part> gate_up, down;
    void clear() {
      gate_up.clear();
      down.clear();
    }
  };

  /// Given d_y before the combine weight was applied:
  ///   d_x = weight * J^T d_y,  d_weight[r] = <d_y[r], y[r]>
  /// Uses up `saved`, and adds to `terms` what the experts' gradients are made
  /// of: x, d_y, `saved` and d_activation have to last until then.
  ///   weight, d_weight [rows] W;  d_activation [rows, intermediate] T
  void backward(Chunk& chunk, TensorView x, TensorView offsets,
                const Saved& saved, TensorView weight, TensorView d_y,
                TensorView d_activation, TensorView d_x, TensorView d_weight,
                Terms& terms) const;

  /// Adds the gradients of all terms in the order they were added, and forgets
  /// them: gradients pass through memory once, however long the chain. The
  /// price is that d_y and d_activation of all iterations wait for it.
  void add_gradients(Chunk& chunk, Terms& terms) const;

  [[nodiscard]] std::int64_t intermediate() const { return intermediate_; }

 private:
  Parameter* gate_up_;
  Parameter* down_;
  std::int64_t intermediate_;
};

}  // namespace catena
