#pragma once

#include <cstdint>
#include <vector>

#include "training/data/dataset.h"

namespace catena::data {

enum class Packing {
  kPacked,  ///< documents one after another in a row
  kPadded,  ///< one document a row, the end of a long one cut off
};

struct SamplerOptions {
  std::int64_t sequence = 512;  ///< positions of a row, at least 1
  Packing packing = Packing::kPacked;
  std::uint64_t seed = 0;
  bool shuffle = true;         ///< else documents in their order
  bool response_only = false;  ///< no loss on the query's tokens
  /// Rows are filled up with padding_token, as the published runs do; only
  /// with kPadded. See Sampler.
  bool keep_padding = false;
  std::int32_t padding_token = 0;
};

/// Rows of uneven length, one after another; without keep_padding, padding is
/// simply not there. All but row_offsets are [tokens].
struct Batch {
  std::int64_t rows = 0, sequence = 0;
  std::vector<std::int64_t> row_offsets;  ///< [rows + 1], into tokens
  std::vector<std::int32_t> tokens;
  std::vector<std::int32_t> targets;    ///< token to predict; -1: not trained
  std::vector<std::int32_t> positions;  ///< in its document, from 0
  /// Index, within the batch's tokens, of the first token of the same
  /// document: the first key the token may attend to.
  std::vector<std::int32_t> first;
  std::int64_t trained_tokens = 0;  ///< targets that are not -1
  /// Positions of [rows, sequence] without a real token, kept or not.
  std::int64_t padding_tokens = 0;
};

/// Where a sampler stands: the next document and the token it goes on at.
struct SamplerState {
  std::int64_t epoch = 0;
  std::int64_t index = 0;  ///< in the epoch's order
  std::int64_t token = 0;  ///< > 0 inside a document that was cut
  bool operator==(const SamplerState&) const = default;
};

/// Documents as rows of training, in an order that depends on the seed alone.
///
/// A document of n tokens d takes n - 1 positions: tokens d[0..n-2], targets
/// d[1..n-1], so no target crosses documents. Documents of fewer than two
/// tokens are passed over. Each epoch has a permutation of its own.
///
/// kPacked: a document that does not fit into what is left of a row begins the
/// next one (next fit). One of more than `sequence` positions is cut into
/// pieces, each starting with the last target of the piece before; a piece is
/// a document of its own to attention and positions. Each target appears once
/// an epoch.
/// kPadded: positions beyond `sequence` are cut off.
/// keep_padding: a document is cut to `sequence` tokens, all of them inputs;
/// padding follows, as tokens of the same document with target -1, except that
/// where no end of text was appended the first padding token is the target of
/// a short document's last token. (The published runs' mask.)
///
/// The rows are the same however many are asked for at once.
/// Thread rule: one thread; the data set is borrowed.
class Sampler {
 public:
  /// Throws: Error(kConfig) for a sequence below 1 or keep_padding with
  /// kPacked; Error(kData) if no document has two tokens.
  Sampler(const Dataset& dataset, const SamplerOptions& options);

  /// Fills `batch` with exactly `rows` rows, going on into the next epoch. The
  /// vectors only grow.
  void next(std::int64_t rows, Batch& batch);
  /// Up to `max_rows` rows, stopping where the epoch ends; false, with an
  /// empty batch, if it has ended. For a fixed validation set.
  bool next_without_wrapping(std::int64_t max_rows, Batch& batch);

  [[nodiscard]] SamplerState state() const { return state_; }
  /// Throws: Error(kData) if the state is not one of this data set.
  void restore(const SamplerState& state);

  [[nodiscard]] std::int64_t epoch() const { return state_.epoch; }
  /// Begun over all epochs, short ones included.
  [[nodiscard]] std::int64_t documents_seen() const;
  /// Documents an epoch passes over because they have fewer than two tokens.
  [[nodiscard]] std::int64_t short_documents() const { return short_; }

 private:
  /// Tokens [begin, begin + inputs] of a document.
  struct Piece {
    std::int64_t document, begin, inputs;
  };
  [[nodiscard]] std::int64_t document_at(const SamplerState& state) const;
  bool find_piece(bool wrap, Piece& piece);
  void advance(const Piece& piece);
  bool add_row(bool wrap, Batch& batch);
  void add_piece(const Piece& piece, Batch& batch);
  void add_padded(const Piece& piece, Batch& batch);
  void push(Batch& batch, std::int32_t token, std::int32_t target,
            std::int32_t position, std::int32_t first) const;

  const Dataset& dataset_;
  SamplerOptions options_;
  SamplerState state_;
  std::int64_t short_ = 0;
  std::vector<std::int32_t> scratch_;
};

}  // namespace catena::data
