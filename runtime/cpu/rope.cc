#include "runtime/cpu/backend.h"
#include "runtime/cpu/rows.h"

namespace catena::cpu {
namespace {

template <class T>
struct Turn {
  using W = Wide<T>;
  std::int64_t half;
  W sign;

  /// Pairs (i, i + half) of one head.
  void halves(T* x, const W* cosine, const W* sine) const {
    W a[kRun], b[kRun];
    for_runs(half, [&](std::int64_t begin, std::int64_t count) {
      convert(x + begin, a, count);
      convert(x + half + begin, b, count);
      for (std::int64_t i = 0; i < count; ++i) {
        const W c = cosine[begin + i], s = sign * sine[begin + i];
        const W turned = a[i] * c - b[i] * s;
        b[i] = a[i] * s + b[i] * c;
        a[i] = turned;
      }
      convert(a, x + begin, count);
      convert(b, x + half + begin, count);
    });
  }

  /// Pairs (2i, 2i + 1) of one head.
  void neighbours(T* x, const W* cosine, const W* sine) const {
    W pair[kRun];
    for_runs(2 * half, [&](std::int64_t begin, std::int64_t count) {
      convert(x + begin, pair, count);
      for (std::int64_t i = 0; i < count / 2; ++i) {
        const W c = cosine[begin / 2 + i], s = sign * sine[begin / 2 + i];
        const W a = pair[2 * i], b = pair[2 * i + 1];
        pair[2 * i] = a * c - b * s;
        pair[2 * i + 1] = a * s + b * c;
      }
      convert(pair, x + begin, count);
    });
  }
};

template <class T>
void rope(ThreadPool& pool, const Rope& k) {
  using W = Wide<T>;
  const Turn<T> turn{.half = k.x.size(2) / 2, .sign = W(k.inverse ? -1 : 1)};
  T* x = k.x.as<T>();
  const std::int32_t* positions = k.position.as<std::int32_t>();
  const W* cosines = k.cosine.as<W>();
  const W* sines = k.sine.as<W>();
  const std::int64_t heads = k.x.size(1);
  for_row_blocks(pool, k.x.size(0), heads * k.x.size(2),
                 [&](std::int64_t begin, std::int64_t end) {
                   for (std::int64_t i = begin; i < end; ++i) {
                     const std::int32_t position = positions[i];
                     CATENA_CHECK(
                         position >= 0 && position < k.cosine.size(0),
                         "[rope] position {} of row {} in a table of {}",
                         position, i, k.cosine.size(0));
                     const W* cosine = row_of(cosines, k.cosine, position);
                     const W* sine = row_of(sines, k.sine, position);
                     for (std::int64_t h = 0; h < heads; ++h) {
                       T* head = row_of(x, k.x, i) + h * k.x.stride(1);
                       k.interleaved ? turn.neighbours(head, cosine, sine)
                                     : turn.halves(head, cosine, sine);
                     }
                   }
                 });
}

}  // namespace

void CpuKernels::run(const Rope& k) {
  visit_floating(k.x.dtype(), [&]<class T>(T) { rope<T>(pool_, k); });
}

}  // namespace catena::cpu
