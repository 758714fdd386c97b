#pragma once

#include "layers/linear.h"

namespace catena {

/// Final norm, output projection and cross entropy, a block of rows at a time,
/// so that logits of all tokens never exist at once.
///   logits = RMSNorm(h) W^T,  W [vocabulary, hidden]
///   loss = sum over trained tokens of -log softmax(logits)[target]
class Head {
 public:
  /// `tied`: the embedding's weight, or null for a weight of its own.
  Head(ParameterSet& set, const ModelConfig& config, Parameter* tied);

  /// Adds the chunk's summed cross entropy to loss [1] float64. When training,
  /// d_h [tokens, hidden] becomes the gradient of
  /// chunk.scale.per_trained_token * loss, and the weights' gradients grow.
  void forward(Chunk& chunk, TensorView h, TensorView loss,
               TensorView d_h) const;

  /// logits [tokens, vocabulary] W of the given rows; for generation and
  /// tests.
  void logits(Chunk& chunk, TensorView h, TensorView logits) const;

 private:
  RmsNormLayer norm_;
  Parameter* weight_;
};

}  // namespace catena
