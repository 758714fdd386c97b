#include "training/data/sampler.h"

#include <algorithm>

#include "runtime/base/error.h"
#include "runtime/base/random.h"

namespace catena::data {
namespace {

// Keeps the order of documents apart from other uses of the same seed.
constexpr std::uint64_t kOrderStream = std::uint64_t{0xDA7A} << 32;

void clear(Batch& batch, std::int64_t sequence) {
  batch.rows = 0;
  batch.sequence = sequence;
  batch.row_offsets.assign(1, 0);
  batch.tokens.clear();
  batch.targets.clear();
  batch.positions.clear();
  batch.first.clear();
  batch.trained_tokens = 0;
  batch.padding_tokens = 0;
}

// Rows are of uneven length: memory is taken for full ones, and not again.
void reserve(Batch& batch, std::int64_t rows, std::int64_t sequence) {
  batch.row_offsets.reserve(static_cast<std::size_t>(rows) + 1);
  for (auto* values :
       {&batch.tokens, &batch.targets, &batch.positions, &batch.first}) {
    values->reserve(static_cast<std::size_t>(rows * sequence));
  }
}

}  // namespace

Sampler::Sampler(const Dataset& dataset, const SamplerOptions& options)
    : dataset_(dataset), options_(options) {
  if (options_.sequence < 1) {
    fail(ErrorKind::kConfig, "a sequence of {} positions: must be at least 1",
         options_.sequence);
  }
  if (options_.keep_padding && options_.packing == Packing::kPacked) {
    fail(ErrorKind::kConfig,
         "padding can be kept only with one document a row, not packed ones");
  }
  scratch_.reserve(static_cast<std::size_t>(options_.sequence) + 1);
  for (std::int64_t i = 0; i < dataset_.documents(); ++i) {
    if (dataset_.length(i) < 2) ++short_;
  }
  if (short_ == dataset_.documents()) {
    fail(ErrorKind::kData,
         "{}: none of its {} documents has two tokens, so there is nothing to "
         "predict",
         dataset_.folder().string(), dataset_.documents());
  }
}

std::int64_t Sampler::document_at(const SamplerState& state) const {
  if (!options_.shuffle) return state.index;
  const Permutation order(
      static_cast<std::uint64_t>(dataset_.documents()), options_.seed,
      kOrderStream + static_cast<std::uint64_t>(state.epoch));
  return static_cast<std::int64_t>(
      order.at(static_cast<std::uint64_t>(state.index)));
}

bool Sampler::find_piece(bool wrap, Piece& piece) {
  for (;;) {
    if (state_.index == dataset_.documents()) {
      if (!wrap) return false;
      state_ = {state_.epoch + 1, 0, 0};
    }
    const std::int64_t document = document_at(state_);
    const std::int64_t targets = dataset_.length(document) - 1 - state_.token;
    if (targets > 0) {
      piece = {document, state_.token, std::min(targets, options_.sequence)};
      return true;
    }
    state_ = {state_.epoch, state_.index + 1, 0};
  }
}

void Sampler::advance(const Piece& piece) {
  const std::int64_t end = piece.begin + piece.inputs;
  const bool more = options_.packing == Packing::kPacked &&
                    end + 1 < dataset_.length(piece.document);
  if (more) {
    state_.token = end;
  } else {
    state_ = {state_.epoch, state_.index + 1, 0};
  }
}

void Sampler::push(Batch& batch, std::int32_t token, std::int32_t target,
                   std::int32_t position, std::int32_t first) const {
  batch.tokens.push_back(token);
  batch.targets.push_back(target);
  batch.positions.push_back(position);
  batch.first.push_back(first);
  if (target >= 0) ++batch.trained_tokens;
}

void Sampler::add_piece(const Piece& piece, Batch& batch) {
  dataset_.read(piece.document, piece.begin, piece.inputs + 1, scratch_);
  const std::int64_t trained_from =
      options_.response_only ? dataset_.response_start(piece.document) : 0;
  const auto first = static_cast<std::int32_t>(batch.tokens.size());
  for (std::int64_t i = 0; i < piece.inputs; ++i) {
    const auto at = static_cast<std::size_t>(i);
    const bool trained = piece.begin + i + 1 >= trained_from;
    push(batch, scratch_[at], trained ? scratch_[at + 1] : -1,
         static_cast<std::int32_t>(i), first);
  }
}

void Sampler::add_padded(const Piece& piece, Batch& batch) {
  const std::int64_t real =
      std::min(dataset_.length(piece.document), options_.sequence);
  dataset_.read(piece.document, 0, real, scratch_);
  const std::int64_t trained_from =
      options_.response_only ? dataset_.response_start(piece.document) : 0;
  const bool padding_ends_it = !dataset_.manifest().append_end_of_text;
  const auto first = static_cast<std::int32_t>(batch.tokens.size());
  for (std::int64_t i = 0; i < options_.sequence; ++i) {
    const bool padding = i >= real;
    std::int32_t target = -1;
    if (i + 1 < real) {
      if (i + 1 >= trained_from)
        target = scratch_[static_cast<std::size_t>(i + 1)];
    } else if (i + 1 == real && real < options_.sequence && padding_ends_it) {
      target = options_.padding_token;
    }
    push(batch,
         padding ? options_.padding_token
                 : scratch_[static_cast<std::size_t>(i)],
         target, static_cast<std::int32_t>(i), first);
  }
  batch.padding_tokens += options_.sequence - real;
}

bool Sampler::add_row(bool wrap, Batch& batch) {
  Piece piece{};
  if (!find_piece(wrap, piece)) return false;
  const std::int64_t begin = batch.row_offsets.back();
  if (options_.keep_padding) {
    add_padded(piece, batch);
    advance(piece);
  } else {
    std::int64_t room = options_.sequence;
    do {
      add_piece(piece, batch);
      advance(piece);
      room -= piece.inputs;
    } while (options_.packing == Packing::kPacked && room > 0 &&
             find_piece(wrap, piece) && piece.inputs <= room);
    batch.padding_tokens += room;
  }
  ++batch.rows;
  const auto end = static_cast<std::int64_t>(batch.tokens.size());
  CATENA_CHECK(end - begin <= options_.sequence, "[sampler] a row of {} tokens",
               end - begin);
  batch.row_offsets.push_back(end);
  return true;
}

void Sampler::next(std::int64_t rows, Batch& batch) {
  reserve(batch, rows, options_.sequence);
  clear(batch, options_.sequence);
  for (std::int64_t row = 0; row < rows; ++row) add_row(true, batch);
}

bool Sampler::next_without_wrapping(std::int64_t max_rows, Batch& batch) {
  clear(batch, options_.sequence);
  while (batch.rows < max_rows && add_row(false, batch)) continue;
  return batch.rows > 0;
}

void Sampler::restore(const SamplerState& state) {
  const bool in_range = state.epoch >= 0 && state.index >= 0 &&
                        state.index <= dataset_.documents() && state.token >= 0;
  const bool valid =
      in_range &&
      (state.token == 0 || (state.index < dataset_.documents() &&
                            state.token < dataset_.length(document_at(state))));
  if (!valid) {
    fail(ErrorKind::kData,
         "{}: the saved position (epoch {}, document {}, token {}) is not one "
         "of this data set; train on the data the run began with",
         dataset_.folder().string(), state.epoch, state.index, state.token);
  }
  state_ = state;
}

std::int64_t Sampler::documents_seen() const {
  return state_.epoch * dataset_.documents() + state_.index;
}

}  // namespace catena::data
