#pragma once

#include <memory>
#include <vector>

#include "layers/decoder_layer.h"
#include "layers/head.h"

namespace catena {

/// A decoder-only language model with chains of experts.
/// Ownership: owns parameters and statistics; the backend must outlive it.
/// Thread rule: one thread.
class Model {
 public:
  /// `ranks`: who else holds a part of it; null for one rank. Borrowed.
  Model(Backend& backend, const ModelConfig& config, Precision precision,
        Ranks* ranks = nullptr);
  ~Model();

  [[nodiscard]] const ModelConfig& config() const { return config_; }
  [[nodiscard]] ParameterSet& parameters() { return parameters_; }
  [[nodiscard]] RoutingStatistics& statistics() { return *statistics_; }
  [[nodiscard]] Backend& backend() { return parameters_.backend(); }
  /// Null for one rank.
  [[nodiscard]] Ranks* ranks() const { return ranks_; }

  /// Forward, backward and gradients of one accumulation step. With several
  /// ranks each has rows of its own, and its gradients and statistics are
  /// those of its rows; sharded experts' gradients are those of all ranks of
  /// the group. Rows are
  /// split over the chunks as evenly as whole rows allow. Adds the loss, and
  /// what routers did, to statistics(), and gradients to the parameters.
  /// `chunks` keep their memory from call to call. `taker`, if this is the last
  /// call before gradients are used, is told which are complete, meanwhile: the
  /// head's first, then each layer's, and the embedding's at last.
  void train(const Tokens& tokens, const LossScale& scale,
             std::vector<std::unique_ptr<Chunk>>& chunks,
             GradientTaker* taker = nullptr);

  /// Sum of cross entropies over trained tokens; no gradients, no counts.
  [[nodiscard]] double evaluate(const Tokens& tokens, Chunk& chunk);

  /// Logits of every token: [tokens, vocabulary] W, in the chunk's memory
  /// until it is used again.
  [[nodiscard]] TensorView logits(const Tokens& tokens, Chunk& chunk);

  /// Extends a sequence whose first `past` tokens are in `caches` by `ids`;
  /// returns the logits of the last one, [1, vocabulary] W.
  [[nodiscard]] TensorView extend(std::span<const std::int32_t> ids,
                                  std::int64_t past,
                                  std::vector<KeyValueCache>& caches,
                                  Chunk& chunk);
  [[nodiscard]] std::vector<KeyValueCache> make_caches(
      std::int64_t capacity) const;

  /// A chunk that suits this model.
  [[nodiscard]] std::unique_ptr<Chunk> make_chunk();

  /// Correction biases move towards balance by the loads of statistics().
  void update_router_biases();

  /// Every chain in order of layers.
  [[nodiscard]] std::vector<Chain*> chains();

 private:
  struct Saved;
  [[nodiscard]] std::unique_ptr<RoutingStatistics> make_statistics();
  Task forward(Chunk& chunk, Saved& saved);
  Task backward(Chunk& chunk, Saved& saved);
  /// That one more chunk has left a group of parameters: embedding, layers,
  /// head.
  void leave(std::size_t group);
  void update_biases(Chain& chain, std::int64_t number);
  /// The stream after the last layer, without keeping what is between.
  TensorView infer(Chunk& chunk);

  ModelConfig config_;
  Ranks* ranks_;
  ParameterSet parameters_;
  Parameter* embedding_;
  std::vector<std::unique_ptr<DecoderLayer>> layers_;
  std::unique_ptr<Head> head_;
  std::unique_ptr<RoutingStatistics> statistics_;
  /// Where layers that are computed again count: nothing counts twice.
  std::unique_ptr<RoutingStatistics> recomputed_statistics_;
  std::vector<std::unique_ptr<Saved>> saved_;
  Pipeline pipeline_;
  std::vector<Task> tasks_;
  /// Of train(): whom to tell, and how many chunks are still in each group.
  GradientTaker* taker_ = nullptr;
  std::vector<std::size_t> chunks_in_;
  RouteSummary loads_, iteration_loads_;  ///< of update_biases()
};

}  // namespace catena
