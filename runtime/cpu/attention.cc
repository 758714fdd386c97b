#include <algorithm>
#include <cmath>
#include <limits>

#include "runtime/cpu/attention_tiles.h"
#include "runtime/cpu/backend.h"

namespace catena::cpu {
namespace {

constexpr std::int64_t kTile = kAttentionTile;

/// Attention of one tile of queries of one head. Scores are held with a row
/// for each key and a lane for each query, so that maxima and sums over keys
/// need no exchange between lanes.
template <class T>
class QueryTile {
 public:
  using W = Wide<T>;
  static constexpr int kWidth = kLanes<W>;

  QueryTile(const Attention& a, std::int64_t head, std::int64_t begin)
      : a_(a),
        head_(head),
        begin_(begin),
        count_(std::min(kTile, a.q.size(0) - begin)),
        lanes_(tile_row<W>(count_)),
        key_head_(head / (a.q.size(1) / a.k.size(1))),
        value_row_(tile_row<W>(a.v.size(2))) {}

  void run() {
    prepare();
    const std::int32_t* const last = a_.last.as<std::int32_t>() + begin_;
    const std::int64_t from = first_[0];
    const std::int64_t to = last[count_ - 1] + 1;
    for (std::int64_t key = from; key < to; key += kTile) {
      add_keys(key, std::min(kTile, to - key));
    }
    finish();
  }

 private:
  // Lanes without a query get an empty range.
  void prepare() {
    thread_local Scratch scratch;
    const std::int64_t size = a_.q.size(2), key_row = tile_row<W>(size);
    W* next = scratch.get<W>(size * kTile + kTile * (key_row + kTile) +
                             2 * kTile * value_row_);
    const auto take = [&](std::int64_t elements) {
      W* const taken = next;
      next += elements;
      return taken;
    };
    q_ = take(size * kTile);
    keys_ = take(kTile * key_row);
    scores_ = take(kTile * kTile);
    values_ = take(kTile * value_row_);
    out_ = take(kTile * value_row_);
    load_transposed(Head<T>(a_.q, head_), begin_, count_, q_);
    std::fill_n(out_, kTile * value_row_, W{0});
    std::fill_n(sum_, kTile, W{0});
    std::fill_n(most_, kTile, kNothing);
    const std::int32_t* const first = a_.first.as<std::int32_t>() + begin_;
    const std::int32_t* const last = a_.last.as<std::int32_t>() + begin_;
    for (std::int64_t i = 0; i < kTile; ++i) {
      first_[i] = i < count_ ? first[i] : std::numeric_limits<Index>::max();
      last_[i] = i < count_ ? last[i] : -1;
    }
  }

  void add_keys(std::int64_t key, std::int64_t count) {
    load_tile(Head<T>(a_.k, key_head_), key, count, keys_);
    load_tile(Head<T>(a_.v, key_head_), key, count, values_);
    multiply_square(count, lanes_, a_.q.size(2), keys_, q_, scores_);
    const bool whole = first_[count_ - 1] <= key && last_[0] >= key + count - 1;
    for (std::int64_t lane = 0; lane < lanes_; lane += kWidth) {
      weigh(lane, key, count, whole && lane + kWidth <= count_);
    }
    for (std::int64_t i = 0; i < count_; ++i) {
      if (shrink_[i] == W{1}) continue;
      W* const row = out_ + i * value_row_;
      for (std::int64_t c = 0; c < value_row_; c += kWidth) {
        store(row + c, shrink_[i] * load(row + c));
      }
    }
    add_transposed_product(count_, a_.v.size(2), count, scores_, values_, out_);
  }

  // Scores of one vector of queries become weights exp(score - most); what
  // was summed before shrinks as `most` grows.
  void weigh(std::int64_t lane, std::int64_t key, std::int64_t count,
             bool whole) {
    const auto scale = static_cast<W>(a_.scale);
    const auto first = load(first_ + lane);
    const auto last = load(last_ + lane);
    const Vector<W> before = load(most_ + lane);
    Vector<W> most = before;
    W* const column = scores_ + lane;
    for (std::int64_t j = 0; j < count; ++j) {
      Vector<W> score = load(column + j * kTile) * scale;
      if (!whole) {
        const auto at = broadcast(static_cast<Index>(key + j));
        score = ((first <= at) & (at <= last)) ? score : broadcast(kNothing);
      }
      store(column + j * kTile, score);
      most = score > most ? score : most;
    }
    Vector<W> sum{};
    for (std::int64_t j = 0; j < count; ++j) {
      const Vector<W> score = load(column + j * kTile);
      Vector<W> weight = exp(score - most);
      if (!whole) weight = score == kNothing ? Vector<W>{} : weight;
      store(column + j * kTile, weight);
      sum += weight;
    }
    const Vector<W> shrink = exp(before - most);
    store(shrink_ + lane, shrink);
    store(sum_ + lane, load(sum_ + lane) * shrink + sum);
    store(most_ + lane, most);
  }

  void finish() {
    const Head<T> out(a_.out, head_);
    W* const log_sum_exp =
        a_.log_sum_exp.as<W>() + head_ * a_.log_sum_exp.stride(0) + begin_;
    for (std::int64_t i = 0; i < count_; ++i) {
      log_sum_exp[i] = most_[i] + std::log(sum_[i]);
      const W inverse = W{1} / sum_[i];
      W* const row = out_ + i * value_row_;
      for (std::int64_t c = 0; c < out.size; c += kWidth) {
        store(out.at(begin_ + i) + c, inverse * load(row + c), out.size - c);
      }
    }
  }

  using Index = LaneInteger<W>;
  // Less than any score; a difference of two of them is 0, not a NaN.
  static constexpr W kNothing = std::numeric_limits<W>::lowest();

  const Attention& a_;
  std::int64_t head_, begin_, count_, lanes_, key_head_, value_row_;
  W *q_ = nullptr, *keys_ = nullptr, *scores_ = nullptr;
  W *values_ = nullptr, *out_ = nullptr;
  W most_[kTile], sum_[kTile], shrink_[kTile];
  Index first_[kTile], last_[kTile];
};

template <class T>
void run_tiles(ThreadPool& pool, const Attention& a) {
  const std::int64_t tiles = (a.q.size(0) + kTile - 1) / kTile;
  pool.run(a.q.size(1) * tiles, [&](std::int64_t index, int) {
    QueryTile<T>(a, index / tiles, index % tiles * kTile).run();
  });
}

}  // namespace

void CpuKernels::run(const Attention& a) {
  switch (a.q.dtype()) {
    case DType::kFloat32:
      return run_tiles<float>(pool_, a);
    case DType::kBFloat16:
      return run_tiles<BFloat16>(pool_, a);
    case DType::kFloat64:
      return run_tiles<double>(pool_, a);
    case DType::kInt32:
    case DType::kInt64:
      break;
  }
  fail(ErrorKind::kInvalidArgument, "[attention] no attention over {}",
       name(a.q.dtype()));
}

}  // namespace catena::cpu
