#pragma once

#include "layers/model.h"

namespace catena {

/// Computes an accumulation step once more and stops at the first tensor, in
/// the order of computation, that is not finite: first the weights, then
/// forward, then backward. Returns if there is none. Leaves gradients and
/// statistics spoilt: the run is to end.
/// Throws: Error(kNonFinite), naming the step, the tensor and how many of its
/// elements are concerned.
void find_non_finite(Model& model, const Tokens& tokens, const LossScale& scale,
                     std::vector<std::unique_ptr<Chunk>>& chunks,
                     std::int64_t step);

}  // namespace catena
