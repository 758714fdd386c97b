#include <algorithm>

#include "runtime/cpu/attention_tiles.h"
#include "runtime/cpu/backend.h"

namespace catena::cpu {
namespace {

constexpr std::int64_t kTile = kAttentionTile;
// Rows of one piece: bounds its memory, and leaves pieces for many threads.
constexpr std::int64_t kMostRows = 512;

/// One piece of AttentionGradient: a key head, the query heads that share it,
/// and rows of one document, whose d_q, d_k and d_v it owns, so that no piece
/// waits for another. With p the weights, recomputed from scores and
/// log_sum_exp, and delta[i] = <d_out[i], out[i]>:
///   d_score[i, j] = scale * p[i, j] * (<d_out[i], v[j]> - delta[i])
///   d_q[i] = sum_j d_score[i, j] k[j]
///   d_k[j] = sum_i d_score[i, j] q[i],  d_v[j] = sum_i p[i, j] d_out[i]
/// Squares of scores have a row for each query and a lane for each key. Those
/// between two pieces of a document are formed in both.
/// Source: arXiv 2205.14135, appendix B.
template <class T>
class GradientPiece {
 public:
  using W = Wide<T>;
  static constexpr int kWidth = kLanes<W>;

  GradientPiece(const AttentionGradient& a, const W* delta,
                std::int64_t key_head, std::int64_t begin, std::int64_t end)
      : a_(a),
        first_(a.first.as<std::int32_t>()),
        delta_(delta),
        key_head_(key_head),
        begin_(begin),
        end_(end),
        group_(a.q.size(1) / a.k.size(1)),
        size_(a.q.size(2)),
        row_(tile_row<W>(size_)),
        value_row_(tile_row<W>(a.v.size(2))) {
    thread_local Scratch scratch;
    const std::int64_t value_size = a.v.size(2), rows = group_ * (end - begin);
    W* next = scratch.get<W>(
        kTile * (size_ + value_size + 2 * kTile + 3 * row_ + 2 * value_row_) +
        rows * row_);
    const auto take = [&](std::int64_t length) {
      W* const taken = next;
      next += length;
      return taken;
    };
    keys_across_ = take(kTile * size_);
    values_across_ = take(kTile * value_size);
    weights_ = take(kTile * kTile);
    d_scores_ = take(kTile * kTile);
    keys_ = take(kTile * row_);
    queries_ = take(kTile * row_);
    d_keys_ = take(kTile * row_);
    d_outs_ = take(kTile * value_row_);
    d_values_ = take(kTile * value_row_);
    d_queries_ = take(rows * row_);
    std::fill_n(d_queries_, rows * row_, W{0});
  }

  void run() {
    for (std::int64_t key = first_[begin_]; key < begin_; key += kTile) {
      add_earlier_keys(key, std::min(kTile, begin_ - key));
    }
    for (std::int64_t key = begin_; key < end_; key += kTile) {
      add_keys(key, std::min(kTile, end_ - key));
    }
    for (std::int64_t h = 0; h < group_; ++h) {
      const Head<T> to(a_.d_q, key_head_ * group_ + h);
      write(d_query(h, begin_), row_, to, begin_, end_ - begin_);
    }
  }

 private:
  void load_keys(std::int64_t key, std::int64_t count) {
    const Head<T> k(a_.k, key_head_), v(a_.v, key_head_);
    load_transposed(k, key, count, keys_across_);
    load_transposed(v, key, count, values_across_);
    load_tile(k, key, count, keys_);
  }

  // Another piece owns these keys: only d_q takes part.
  void add_earlier_keys(std::int64_t key, std::int64_t count) {
    load_keys(key, count);
    const std::int64_t to = std::min(end_, reach(key + count - 1));
    for (std::int64_t h = 0; h < group_; ++h) {
      for (std::int64_t query = begin_; query < to; query += kTile) {
        const std::int64_t queries = std::min(kTile, to - query);
        form_square(h, query, queries, key, count);
        add_to_queries(h, query, queries, count);
      }
    }
  }

  void add_keys(std::int64_t key, std::int64_t count) {
    load_keys(key, count);
    std::fill_n(d_keys_, kTile * row_, W{0});
    std::fill_n(d_values_, kTile * value_row_, W{0});
    const std::int64_t to = reach(key + count - 1);
    for (std::int64_t h = 0; h < group_; ++h) {
      std::int64_t query = key;
      for (std::int64_t queries; query < to; query += queries) {
        const bool own = query < end_;
        queries = std::min(kTile, (own ? std::min(to, end_) : to) - query);
        form_square(h, query, queries, key, count);
        add_to_keys(queries, count);
        if (own) add_to_queries(h, query, queries, count);
      }
    }
    write(d_keys_, row_, Head<T>(a_.d_k, key_head_), key, count);
    write(d_values_, value_row_, Head<T>(a_.d_v, key_head_), key, count);
  }

  // Weights and d_scores of some queries and the keys that are loaded.
  void form_square(std::int64_t h, std::int64_t query, std::int64_t queries,
                   std::int64_t key, std::int64_t count) {
    const std::int64_t head = key_head_ * group_ + h;
    const std::int64_t value_size = a_.v.size(2), lanes = tile_row<W>(count);
    load_tile(Head<T>(a_.q, head), query, queries, queries_);
    load_tile(Head<T>(a_.d_out, head), query, queries, d_outs_);
    multiply_square(queries, lanes, size_, queries_, keys_across_, weights_);
    multiply_square(queries, lanes, value_size, d_outs_, values_across_,
                    d_scores_);
    for (std::int64_t i = 0; i < queries; ++i) {
      weigh(head, query + i, i, key, count);
    }
  }

  void add_to_keys(std::int64_t queries, std::int64_t count) {
    add_transposed_product(count, a_.v.size(2), queries, weights_, d_outs_,
                           d_values_);
    add_transposed_product(count, size_, queries, d_scores_, queries_, d_keys_);
  }

  void add_to_queries(std::int64_t h, std::int64_t query, std::int64_t queries,
                      std::int64_t count) {
    multiply_block(queries, size_, count, LeftFactor<W>{d_scores_, kTile, 1},
                   keys_, row_, d_query(h, query), row_, true);
  }

  // One past the last query that sees a key up to `key`: first is ascending.
  [[nodiscard]] std::int64_t reach(std::int64_t key) const {
    return std::upper_bound(first_ + key, first_ + a_.q.size(0), key) - first_;
  }

  [[nodiscard]] W* d_query(std::int64_t h, std::int64_t query) {
    return d_queries_ + (h * (end_ - begin_) + query - begin_) * row_;
  }

  // Scores of one query become weights and d_scores.
  void weigh(std::int64_t head, std::int64_t query, std::int64_t row,
             std::int64_t key, std::int64_t count) {
    const W log_sum =
        a_.log_sum_exp.as<W>()[head * a_.log_sum_exp.stride(0) + query];
    const W delta = delta_[head * a_.q.size(0) + query];
    const auto scale = static_cast<W>(a_.scale);
    const bool whole = first_[query] <= key && key + count - 1 <= query;
    for (std::int64_t lane = 0; lane < count; lane += kWidth) {
      const std::int64_t at = row * kTile + lane;
      Vector<W> weight = exp(load(weights_ + at) * scale - log_sum);
      if (!whole) {
        Vector<Index> place = load(kCounting.values);
        place += static_cast<Index>(key + lane);
        weight =
            ((place >= first_[query]) & (place <= static_cast<Index>(query)))
                ? weight
                : Vector<W>{};
      }
      store(weights_ + at, weight);
      store(d_scores_ + at, weight * scale * (load(d_scores_ + at) - delta));
    }
  }

  static void write(const W* sum, std::int64_t sum_row, const Head<T>& to,
                    std::int64_t begin, std::int64_t count) {
    internal::narrow_rows(sum, sum_row, count, to.size, to.at(begin), to.row);
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
  std::int64_t key_head_, begin_, end_, group_, size_, row_, value_row_;
  // `across`: transposed, a row for each channel.
  W *keys_across_, *values_across_, *weights_, *d_scores_, *keys_, *queries_;
  W *d_keys_, *d_outs_, *d_values_, *d_queries_;
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

/// Where pieces begin, then the end; returns their number. They begin where no
/// later row attends to an earlier one, and after kMostRows rows.
std::int64_t cut(const AttentionGradient& a, std::int64_t* cuts) {
  const std::int32_t* const first = a.first.as<std::int32_t>();
  const std::int64_t rows = a.q.size(0);
  std::int64_t pieces = 0;
  for (std::int64_t i = 0; i < rows; ++i) {
    const bool begins = i == 0 || first[i] == i;
    if (begins || i == cuts[pieces - 1] + kMostRows) cuts[pieces++] = i;
  }
  cuts[pieces] = rows;
  return pieces;
}

template <class T>
void run_pieces(ThreadPool& pool, const AttentionGradient& a) {
  thread_local Scratch scratch, list;
  const std::int64_t rows = a.q.size(0), heads = a.q.size(1);
  const std::int64_t tiles = (rows + kTile - 1) / kTile;
  Wide<T>* const delta = scratch.get<Wide<T>>(heads * rows);
  pool.run(tiles, [&](std::int64_t index, int) {
    row_products<T>(a, index * kTile, delta);
  });
  std::int64_t* const cuts = list.get<std::int64_t>(rows + 1);
  const std::int64_t pieces = cut(a, cuts);
  pool.run(a.k.size(1) * pieces, [&](std::int64_t index, int) {
    const std::int64_t* const at = cuts + index % pieces;
    GradientPiece<T>(a, delta, index / pieces, at[0], at[1]).run();
  });
}

}  // namespace

void CpuKernels::run(const AttentionGradient& a) {
  switch (a.q.dtype()) {
    case DType::kFloat32:
      return run_pieces<float>(pool_, a);
    case DType::kBFloat16:
      return run_pieces<BFloat16>(pool_, a);
    case DType::kFloat64:
      return run_pieces<double>(pool_, a);
    case DType::kInt32:
    case DType::kInt64:
      break;
  }
  fail(ErrorKind::kInvalidArgument, "[attention_gradient] no attention over {}",
       name(a.q.dtype()));
}

}  // namespace catena::cpu
