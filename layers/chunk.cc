#include "layers/chunk.h"

#include <algorithm>
#include <numeric>

namespace catena {

void Observer::computed(std::string_view, TensorView) {}
TensorView Observer::forced_routes(const Chunk&, std::int64_t, std::int64_t) {
  return {};
}
void Observer::routed(const Chunk&, std::int64_t, std::int64_t, const Routed&) {
}

Chunk::Chunk(Backend& backend, Precision precision, MemorySource* wire)
    : activations(backend),
      scratch(backend),
      wire(wire != nullptr ? *wire : backend),
      backend_(&backend),
      precision_(precision) {}

void Chunk::clear() {
  activations.rewind({});
  scratch.rewind({});
  wire.rewind({});
}

void Chunk::reserve(const ChunkMemory& memory, std::int64_t most) {
  clear();
  staging_.reserve(
      static_cast<std::size_t>(most * std::max<std::int64_t>(1, balanced_k)));
  activations.reserve(memory.activations);
  scratch.reserve(memory.scratch);
}

TensorView Chunk::upload(std::span<const std::int32_t> values) {
  const TensorView view =
      keep(DType::kInt32, {static_cast<std::int64_t>(values.size())});
  backend_->copy_from_host(view.data(), values.data(), values.size_bytes());
  return view;
}

// lengths_ as [n] W.
TensorView Chunk::upload_lengths() {
  const TensorView view =
      keep(wide(), {static_cast<std::int64_t>(lengths_.size())});
  const void* host = lengths_.data();
  if (wide() == DType::kFloat32) {
    narrow_lengths_.assign(lengths_.begin(), lengths_.end());
    host = narrow_lengths_.data();
  }
  backend_->copy_from_host(view.data(), host,
                           static_cast<std::size_t>(view.bytes()));
  return view;
}

void Chunk::upload_segments(std::span<const std::int64_t> row_offsets,
                            std::int64_t batch_tokens) {
  sequences = static_cast<std::int64_t>(row_offsets.size()) - 1;
  staging_.clear();
  lengths_.clear();
  for (std::int64_t row = 0; row < sequences; ++row) {
    const auto at = static_cast<std::size_t>(row);
    const std::int64_t length = row_offsets[at + 1] - row_offsets[at];
    staging_.insert(staging_.end(), static_cast<std::size_t>(length),
                    static_cast<std::int32_t>(row));
    lengths_.push_back(static_cast<double>(length));
  }
  sequence = upload(staging_);
  sequence_length = upload_lengths();
  lengths_.assign(1, static_cast<double>(batch_tokens));
  batch_length = upload_lengths();
  staging_.assign(static_cast<std::size_t>(tokens), 0);
  one_segment = upload(staging_);
  balanced_routes = {};
  if (balanced_k > 0) {
    // Dealt out over all chunks as if they were one.
    const std::int64_t dealt = row_offsets.front() * balanced_k;
    staging_.clear();
    for (std::int64_t i = 0; i < tokens * balanced_k; ++i) {
      staging_.push_back(
          static_cast<std::int32_t>((dealt + i) % balanced_experts));
    }
    balanced_routes = upload(staging_).reshape({tokens, balanced_k});
  }
}

void Chunk::load(const Tokens& all, std::int64_t first_row,
                 std::int64_t row_count) {
  clear();
  caches = {};
  past = 0;
  const auto offsets =
      all.row_offsets.subspan(static_cast<std::size_t>(first_row),
                              static_cast<std::size_t>(row_count) + 1);
  const std::int64_t begin = offsets.front();
  first_token = begin;
  tokens = offsets.back() - begin;
  const auto part = [&](std::span<const std::int32_t> values) {
    return values.subspan(static_cast<std::size_t>(begin),
                          static_cast<std::size_t>(tokens));
  };
  ids = upload(part(all.ids));
  targets = upload(part(all.targets));
  positions = upload(part(all.positions));
  const auto starts = part(all.first);
  staging_.assign(starts.begin(), starts.end());
  key_pairs = 0;
  for (std::size_t i = 0; i < staging_.size(); ++i) {
    staging_[i] -= static_cast<std::int32_t>(begin);
    key_pairs += static_cast<std::int64_t>(i) - staging_[i] + 1;
  }
  first = upload(staging_);
  std::iota(staging_.begin(), staging_.end(), 0);
  last = upload(staging_);
  upload_segments(offsets, all.batch_tokens >= 0 ? all.batch_tokens
                                                 : all.row_offsets.back() -
                                                       all.row_offsets.front());
}

void Chunk::load_cached(std::span<const std::int32_t> new_ids,
                        std::int64_t past_tokens,
                        std::span<KeyValueCache> layer_caches) {
  clear();
  training = false;
  caches = layer_caches;
  past = past_tokens;
  tokens = static_cast<std::int64_t>(new_ids.size());
  ids = upload(new_ids);
  staging_.resize(new_ids.size());
  std::iota(staging_.begin(), staging_.end(), static_cast<std::int32_t>(past));
  positions = upload(staging_);
  last = positions;
  key_pairs = 0;
  for (const std::int32_t key : staging_) key_pairs += key + 1;
  staging_.assign(new_ids.size(), 0);
  first = upload(staging_);
  staging_.assign(new_ids.size(), -1);
  targets = upload(staging_);
  const std::int64_t offsets[] = {past, past + tokens};
  upload_segments(offsets, tokens);
}

}  // namespace catena
