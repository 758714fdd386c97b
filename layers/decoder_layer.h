#pragma once

#include <memory>

#include "layers/attention.h"
#include "layers/chain.h"

namespace catena {

/// One layer of the decoder. With h its input:
///   a = h + Attention(RMSNorm_input(h))
///   x = RMSNorm_post(a)
///   out = Chain(x)  (+ a with the outer residual)
/// As published, with the inner residual only, the un-normalised stream `a`
/// does not reach the output. A dense layer is the usual a + SwiGLU(x).
class DecoderLayer {
 public:
  struct Saved {
    AttentionLayer::Saved attention;
    RmsNormLayer::Saved input_norm, post_norm;
    TensorView x;  ///< [tokens, hidden]: what the chain or MLP starts from
    Chain::Saved chain;
    SwiGluMlp::Saved mlp;
  };

  DecoderLayer(ParameterSet& set, std::int64_t layer, const ModelConfig& config,
               std::shared_ptr<const RopeTable> table, Ranks* ranks);

  /// h, out [tokens, hidden] T.
  Task forward(Chunk& chunk, TensorView h, TensorView out,
               const RoutingStatistics& statistics, Saved& saved) const;
  /// On entry d holds the gradient of `out`, on return that of `h`.
  Task backward(Chunk& chunk, const RoutingStatistics& statistics, Saved& saved,
                TensorView d) const;

  /// Null for a dense layer.
  [[nodiscard]] Chain* chain() { return chain_.get(); }
  [[nodiscard]] const Chain* chain() const { return chain_.get(); }
  [[nodiscard]] const AttentionLayer& attention() const { return *attention_; }

 private:
  std::string name_;
  std::int64_t layer_;
  bool outer_residual_;
  RmsNormLayer input_norm_, post_norm_;
  std::unique_ptr<AttentionLayer> attention_;
  std::unique_ptr<Chain> chain_;
  std::unique_ptr<SwiGluMlp> mlp_;
};

}  // namespace catena
