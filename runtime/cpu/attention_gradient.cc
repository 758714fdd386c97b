#include <algorithm>

#include "runtime/cpu/attention_tiles.h"
#include "runtime/cpu/backend.h"

namespace catena::cpu {
namespace {

constexpr std::int64_t kTile = kAttentionTile;

/// Pieces of AttentionGradient. With p the weights, recomputed from scores and
/// log_sum_exp, and delta[i] = <d_out[i], out[i]>:
///   d_score[i, j] = scale * p[i, j] * (<d_out[i], v[j]> - delta[i])
///   d_q[i] = sum_j d_score[i, j] k[j]
///   d_k[j] = sum_i d_score[i, j] q[i],  d_v[j] = sum_i p[i, j] d_out[i]
/// One set of pieces owns rows of d_q, another rows of d_k and d_v, so that
/// none waits for or adds to another; the price is that weights are computed
/// twice.
/// Source: arXiv 2205.14135, appendix B.
template <class T>
class GradientTile {
 public:
  using W = Wide<T>;
  static constexpr int kWidth = kLanes<W>;

  GradientTile(const AttentionGradient& a, const W* delta)
      : a_(a),
        first_(a.first.as<std::int32_t>()),
        delta_(delta),
        rows_(a.q.size(0)),
        group_(a.q.size(1) / a.k.size(1)),
        size_(a.q.size(2)),
        value_size_(a.v.size(2)) {
    const std::int64_t row = tile_row<W>(size_);
    const std::int64_t value_row = tile_row<W>(value_size_);
    thread_local Scratch scratch;
    W* next = scratch.get<W>(
        kTile * (size_ + value_size_ + 2 * kTile + 2 * row + 2 * value_row));
    const auto take = [&](std::int64_t length) {
      W* const taken = next;
      next += kTile * length;
      return taken;
    };
    own_ = take(size_);
    own_value_ = take(value_size_);
    weights_ = take(kTile);
    d_scores_ = take(kTile);
    other_ = take(row);
    other_value_ = take(value_row);
    sum_ = take(row);
    value_sum_ = take(value_row);
  }

  /// d_q of the queries from `begin` on: a row of the squares for each key, a
  /// lane for each query.
  void queries(std::int64_t head, std::int64_t begin) {
    const std::int64_t count = std::min(kTile, rows_ - begin);
    const Head<T> k(a_.k, head / group_), v(a_.v, head / group_);
    load_transposed(Head<T>(a_.q, head), begin, count, own_);
    load_transposed(Head<T>(a_.d_out, head), begin, count, own_value_);
    std::fill_n(sum_, kTile * tile_row<W>(size_), W{0});
    const std::int64_t end = begin + count;
    for (std::int64_t key = first_[begin]; key < end; key += kTile) {
      const std::int64_t keys = std::min(kTile, end - key);
      load_tile(k, key, keys, other_);
      load_tile(v, key, keys, other_value_);
      square(keys, count);
      const bool whole = first_[end - 1] <= key && key + keys - 1 <= begin;
      for (std::int64_t lane = 0; lane < count; lane += kWidth) {
        weigh_queries(head, begin, lane, count, key, keys, whole);
      }
      add_transposed_product(count, size_, keys, d_scores_, other_, sum_);
    }
    write(sum_, Head<T>(a_.d_q, head), begin, count);
  }

  /// d_k and d_v of the keys from `begin` on, summed over the query heads that
  /// share them: a row of the squares for each query, a lane for each key.
  void keys(std::int64_t key_head, std::int64_t begin) {
    const std::int64_t count = std::min(kTile, rows_ - begin);
    load_transposed(Head<T>(a_.k, key_head), begin, count, own_);
    load_transposed(Head<T>(a_.v, key_head), begin, count, own_value_);
    std::fill_n(sum_, kTile * tile_row<W>(size_), W{0});
    std::fill_n(value_sum_, kTile * tile_row<W>(value_size_), W{0});
    const std::int64_t to = reach(begin + count - 1);
    for (std::int64_t h = 0; h < group_; ++h) {
      const std::int64_t head = key_head * group_ + h;
      const Head<T> q(a_.q, head), d_out(a_.d_out, head);
      for (std::int64_t query = begin; query < to; query += kTile) {
        const std::int64_t queries = std::min(kTile, to - query);
        load_tile(q, query, queries, other_);
        load_tile(d_out, query, queries, other_value_);
        square(queries, count);
        for (std::int64_t i = 0; i < queries; ++i) {
          weigh_keys(head, query + i, i, begin, count);
        }
        add_transposed_product(count, value_size_, queries, weights_,
                               other_value_, value_sum_);
        add_transposed_product(count, size_, queries, d_scores_, other_, sum_);
      }
    }
    write(sum_, Head<T>(a_.d_k, key_head), begin, count);
    write(value_sum_, Head<T>(a_.d_v, key_head), begin, count);
  }

 private:
  // One past the last query that sees a key up to `key`: first is ascending.
  [[nodiscard]] std::int64_t reach(std::int64_t key) const {
    return std::upper_bound(first_, first_ + rows_, key) - first_;
  }

  void square(std::int64_t rows, std::int64_t lanes) {
    multiply_square(rows, tile_row<W>(lanes), size_, other_, own_, weights_);
    multiply_square(rows, tile_row<W>(lanes), value_size_, other_value_,
                    own_value_, d_scores_);
  }

  void weigh_queries(std::int64_t head, std::int64_t begin, std::int64_t lane,
                     std::int64_t count, std::int64_t key, std::int64_t keys,
                     bool whole) {
    const W* const log_sums =
        a_.log_sum_exp.as<W>() + head * a_.log_sum_exp.stride(0) + begin;
    const std::int64_t left = count - lane;
    const Vector<W> log_sum = load(log_sums + lane, left);
    const Vector<W> delta = load(delta_ + head * rows_ + begin + lane, left);
    const auto scale = static_cast<W>(a_.scale);
    Vector<Index> first{}, query{};
    for (int l = 0; l < kWidth; ++l) {
      query[l] = static_cast<Index>(begin + lane + l);
      first[l] = l < left ? first_[begin + lane + l] : query[l] + 1;
    }
    for (std::int64_t j = 0; j < keys; ++j) {
      const std::int64_t at = j * kTile + lane;
      Vector<W> weight = exp(load(weights_ + at) * scale - log_sum);
      if (!whole) {
        const auto place = broadcast(static_cast<Index>(key + j));
        weight = ((first <= place) & (place <= query)) ? weight : Vector<W>{};
      }
      store(d_scores_ + at, weight * scale * (load(d_scores_ + at) - delta));
    }
  }

  void weigh_keys(std::int64_t head, std::int64_t query, std::int64_t row,
                  std::int64_t begin, std::int64_t count) {
    const W log_sum =
        a_.log_sum_exp.as<W>()[head * a_.log_sum_exp.stride(0) + query];
    const W delta = delta_[head * rows_ + query];
    const auto scale = static_cast<W>(a_.scale);
    const bool whole = first_[query] <= begin && begin + count - 1 <= query;
    for (std::int64_t lane = 0; lane < count; lane += kWidth) {
      const std::int64_t at = row * kTile + lane;
      Vector<W> weight = exp(load(weights_ + at) * scale - log_sum);
      if (!whole) {
        Vector<Index> key = load(kCounting.values);
        key += static_cast<Index>(begin + lane);
        weight = ((key >= first_[query]) & (key <= static_cast<Index>(query)))
                     ? weight
                     : Vector<W>{};
      }
      store(weights_ + at, weight);
      store(d_scores_ + at, weight * scale * (load(d_scores_ + at) - delta));
    }
  }

  void write(const W* sum, const Head<T>& to, std::int64_t begin,
             std::int64_t count) {
    internal::narrow_rows(sum, tile_row<W>(to.size), count, to.size,
                          to.at(begin), to.row);
  }

  using Index = LaneInteger<W>;
  struct Counting {
    Index values[kWidth];
    constexpr Counting() : values() {
      for (int l = 0; l < kWidth; ++l) values[l] = l;
    }
  };
  static constexpr Counting kCounting{};

  const AttentionGradient& a_;
  const std::int32_t* first_;
  const W* delta_;
  std::int64_t rows_, group_, size_, value_size_;
  // The piece's own rows, transposed; squares; rows of the other side; sums.
  W *own_, *own_value_, *weights_, *d_scores_;
  W *other_, *other_value_, *sum_, *value_sum_;
};

/// delta[head][row] = <d_out, out> for the rows of one tile.
template <class T>
void row_products(const AttentionGradient& a, std::int64_t begin,
                  Wide<T>* delta) {
  using W = Wide<T>;
  const std::int64_t rows = a.q.size(0), heads = a.q.size(1);
  const std::int64_t end = std::min(begin + kTile, rows);
  for (std::int64_t h = 0; h < heads; ++h) {
    const Head<T> out(a.out, h), d_out(a.d_out, h);
    for (std::int64_t i = begin; i < end; ++i) {
      Vector<W> total{};
      for (std::int64_t c = 0; c < out.size; c += kLanes<W>) {
        total += load(out.at(i) + c, out.size - c) *
                 load(d_out.at(i) + c, out.size - c);
      }
      delta[h * rows + i] = sum<W>(total);
    }
  }
}

template <class T>
void run_tiles(ThreadPool& pool, const AttentionGradient& a) {
  thread_local Scratch scratch;
  const std::int64_t rows = a.q.size(0), heads = a.q.size(1);
  const std::int64_t tiles = (rows + kTile - 1) / kTile;
  Wide<T>* const delta = scratch.get<Wide<T>>(heads * rows);
  pool.run(tiles, [&](std::int64_t index, int) {
    row_products<T>(a, index * kTile, delta);
  });
  const std::int64_t key_pieces = a.k.size(1) * tiles;
  pool.run(key_pieces + heads * tiles, [&](std::int64_t index, int) {
    GradientTile<T> tile(a, delta);
    if (index < key_pieces) {
      tile.keys(index / tiles, index % tiles * kTile);
    } else {
      const std::int64_t rest = index - key_pieces;
      tile.queries(rest / tiles, rest % tiles * kTile);
    }
  });
}

}  // namespace

void CpuKernels::run(const AttentionGradient& a) {
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
  fail(ErrorKind::kInvalidArgument, "[attention_gradient] no attention over {}",
       name(a.q.dtype()));
}

}  // namespace catena::cpu
