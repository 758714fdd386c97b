#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "layers/parameter.h"
#include "parallel/pipeline.h"
#include "runtime/arena.h"

namespace catena {

/// Rows of tokens for the model to work on, on the host: whole sequences one
/// after another, without padding. Borrowed.
struct Tokens {
  std::span<const std::int32_t> ids;
  std::span<const std::int32_t> targets;      ///< -1: not trained
  std::span<const std::int32_t> positions;    ///< inside the token's document
  std::span<const std::int32_t> first;        ///< first token of the document,
                                              ///< counted from ids.begin()
  std::span<const std::int64_t> row_offsets;  ///< [rows + 1] into ids; may
                                              ///< be some rows of many
  /// Of the accumulation step, on all ranks; -1: these rows are all.
  std::int64_t batch_tokens = -1;

  [[nodiscard]] std::int64_t rows() const {
    return static_cast<std::int64_t>(row_offsets.size()) - 1;
  }
};

/// [begin, end) of a run of rows.
struct RowRange {
  std::int64_t begin = 0, end = 0;
  [[nodiscard]] std::int64_t rows() const { return end - begin; }
};
/// The part-th of `parts` runs that `rows` are cut into, as even as whole rows
/// allow: what ranks get of an accumulation step, and chunks of a rank's.
[[nodiscard]] constexpr RowRange share_of(std::int64_t rows, std::int64_t part,
                                          std::int64_t parts) {
  return {rows * part / parts, rows * (part + 1) / parts};
}

/// What losses of a chunk are divided by: counts over the whole global batch,
/// so that no split into ranks, accumulation steps or chunks shows.
struct LossScale {
  double per_trained_token = 1;  ///< cross entropy
  double per_sequence = 1;       ///< balance loss, scope "sequence"
  double per_token = 1;          ///< z-loss
  double per_batch = 1;          ///< balance loss, scope "batch": the share of
                                 ///< this accumulation step in the batch
};

class Chunk;

/// Looks at, or replaces, what happens inside a model. For tests, traces and
/// for finding where a number stopped being finite.
class Observer {
 public:
  virtual ~Observer() = default;
  /// A tensor has just been computed; `name` is such as
  /// "model.layers.3.mlp.1.output".
  virtual void computed(std::string_view name, TensorView value);
  /// [tokens, top_k] int32 to use instead of choosing, or undefined.
  virtual TensorView forced_routes(const Chunk& chunk, std::int64_t layer,
                                   std::int64_t iteration);
  /// A chunk's choices: index, weight [tokens, top_k]; scores
  /// [tokens, experts] W; bias [experts] W or undefined.
  struct Routed {
    TensorView index, weight, scores, bias;
  };
  virtual void routed(const Chunk& chunk, std::int64_t layer,
                      std::int64_t iteration, const Routed& routes);
};

/// Keys and values of one layer for one sequence that is being generated.
struct KeyValueCache {
  Tensor keys, values;  ///< [capacity, kv_heads, size] T
};

/// Bytes that a chunk's arenas need at most.
struct ChunkMemory {
  std::size_t activations = 0, scratch = 0, wire = 0;

  [[nodiscard]] std::size_t total() const {
    return activations + scratch + wire;
  }
};

/// One chunk on its way through the model: whole sequences, their place in
/// memory, and the memory their activations live in.
/// Thread rule: one thread.
class Chunk : public FrameMemory {
 public:
  /// `wire`: where that is held which is sent to other ranks; null: the
  /// backend's. Borrowed.
  Chunk(Backend& backend, Precision precision, MemorySource* wire = nullptr);

  /// Takes the rows [first_row, first_row + row_count) of `tokens`. Forgets
  /// everything about the rows before.
  void load(const Tokens& tokens, std::int64_t first_row,
            std::int64_t row_count);
  /// One piece of a sequence under generation: `ids` stand at positions
  /// [past, past + ids.size()), and attend to the cache.
  void load_cached(std::span<const std::int32_t> ids, std::int64_t past,
                   std::span<KeyValueCache> caches);
  /// Ends the use of all activations.
  void clear();
  /// clear(), and takes so much memory at once, and what the host needs for
  /// `most` tokens: from then on nothing more is allocated for rows that fit.
  /// But `wire` grows as it is used: it may be memory that is no longer free
  /// once it is held, and the most that any routing sends is seldom sent.
  void reserve(const ChunkMemory& memory, std::int64_t most = 0);

  [[nodiscard]] Backend& backend() { return *backend_; }
  [[nodiscard]] Kernels& kernels() { return backend_->kernels(); }
  [[nodiscard]] DType compute() const { return precision_.compute; }
  [[nodiscard]] DType wide() const { return precision_.wide(); }

  /// A value that backward needs, or that leaves the layer.
  [[nodiscard]] TensorView keep(DType dtype, const Shape& shape) {
    return activations.allocate(dtype, shape);
  }
  /// A value that dies with the current ArenaScope on `scratch`.
  [[nodiscard]] TensorView temporary(DType dtype, const Shape& shape) {
    return scratch.allocate(dtype, shape);
  }
  void computed(std::string_view name, TensorView value) {
    if (observer != nullptr) observer->computed(name, value);
  }

  [[nodiscard]] ChunkMemory peak() const {
    return {activations.peak_bytes(), scratch.peak_bytes(), wire.peak_bytes()};
  }

  Arena activations, scratch;
  Arena wire;            ///< what is on its way to other ranks, see Dispatch
  bool training = true;  ///< keep what backward needs, count routes
  /// Keep the inputs of layers alone, and compute each layer again when its
  /// gradient is due: the same numbers and routes, with less memory.
  bool recompute = false;
  Observer* observer = nullptr;
  LossScale scale;

  std::int64_t number = 0;    ///< of this chunk in its accumulation step
  bool reports_batch = true;  ///< one chunk of all ranks does: see Router
  std::int64_t tokens = 0, sequences = 0;
  std::int64_t first_token = 0;  ///< place of its first one in Tokens
  std::int64_t key_pairs = 0;    ///< pairs that attention forms
  std::int64_t past = 0;         ///< tokens already in the caches
  std::span<KeyValueCache> caches;

  TensorView ids, targets, positions;  ///< [tokens] int32
  TensorView first, last;              ///< [tokens] int32: keys attended to
  TensorView sequence;         ///< [tokens] int32: sequence in this chunk
  TensorView sequence_length;  ///< [sequences] W
  TensorView one_segment;      ///< [tokens] int32, all zero
  TensorView batch_length;     ///< [1] W: tokens of the accumulation step
  TensorView balanced_routes;  ///< [tokens, k] int32, or undefined
  std::int64_t balanced_k = 0, balanced_experts = 0;  ///< 0: not forced

 private:
  TensorView upload(std::span<const std::int32_t> values);
  TensorView upload_lengths();
  void upload_segments(std::span<const std::int64_t> row_offsets,
                       std::int64_t batch_tokens);

  Backend* backend_;
  Precision precision_;
  std::vector<std::int32_t> staging_;
  std::vector<double> lengths_;
  std::vector<float> narrow_lengths_;
};

}  // namespace catena
