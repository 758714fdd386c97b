#include "runtime/cpu/backend.h"
#include "runtime/cpu/rows.h"

namespace catena::cpu {
namespace {

/// s[c] = 1 / (1 + exp(-x[c])).
template <class W>
void sigmoid(const W* x, W* s, std::int64_t count) {
  for (std::int64_t c = 0; c < count; ++c) s[c] = -x[c];
  exp_in_place(s, count);
  for (std::int64_t c = 0; c < count; ++c) s[c] = W{1} / (W{1} + s[c]);
}

template <class T>
void forward_row(const T* gate_up, std::int64_t columns, T* out) {
  using W = Wide<T>;
  W gate[kRun], up[kRun], s[kRun];
  for_runs(columns, [&](std::int64_t begin, std::int64_t count) {
    convert(gate_up + begin, gate, count);
    convert(gate_up + columns + begin, up, count);
    sigmoid(gate, s, count);
    for (std::int64_t c = 0; c < count; ++c) up[c] *= gate[c] * s[c];
    convert(up, out + begin, count);
  });
}

/// Returns <d_out, a>. Every run is read before it is written, so the outputs
/// may be the inputs.
template <class T>
Wide<T> gradient_row(const T* gate_up, const T* d_out, Wide<T> weight,
                     std::int64_t columns, T* d_gate_up, T* activation) {
  using W = Wide<T>;
  W gate[kRun], up[kRun], s[kRun], d[kRun], a[kRun];
  LaneSum<W> product;
  for_runs(columns, [&](std::int64_t begin, std::int64_t count) {
    convert(gate_up + begin, gate, count);
    convert(gate_up + columns + begin, up, count);
    convert(d_out + begin, d, count);
    sigmoid(gate, s, count);
    for (std::int64_t c = 0; c < count; ++c) a[c] = gate[c] * s[c] * up[c];
    product.add(count, [&](std::int64_t c) { return d[c] * a[c]; });
    for (std::int64_t c = 0; c < count; ++c) {
      const W silu = gate[c] * s[c];
      const W slope = s[c] * (W{1} + gate[c] * (W{1} - s[c]));
      const W d_a = weight * d[c];
      gate[c] = d_a * up[c] * slope;
      up[c] = d_a * silu;
      a[c] *= weight;
    }
    convert(gate, d_gate_up + begin, count);
    convert(up, d_gate_up + columns + begin, count);
    convert(a, activation + begin, count);
  });
  return product.total();
}

}  // namespace

void CpuKernels::run(const SwiGlu& k) {
  visit_floating(k.out.dtype(), [&]<class T>(T) {
    const T* gate_up = k.gate_up.as<T>();
    T* out = k.out.as<T>();
    const std::int64_t columns = k.out.size(1);
    for_row_blocks(pool_, k.out.size(0), columns,
                   [&](std::int64_t begin, std::int64_t end) {
                     for (std::int64_t i = begin; i < end; ++i) {
                       forward_row(row_of(gate_up, k.gate_up, i), columns,
                                   row_of(out, k.out, i));
                     }
                   });
  });
}

void CpuKernels::run(const SwiGluGradient& k) {
  visit_floating(k.d_out.dtype(), [&]<class T>(T) {
    using W = Wide<T>;
    const T* gate_up = k.gate_up.as<T>();
    const T* d_out = k.d_out.as<T>();
    T* d_gate_up = k.d_gate_up.as<T>();
    T* activation = k.activation.as<T>();
    const bool weighted = k.weight.defined();
    const W* weight = weighted ? k.weight.as<W>() : nullptr;
    W* d_weight = weighted ? k.d_weight.as<W>() : nullptr;
    const std::int64_t columns = k.d_out.size(1);
    for_row_blocks(pool_, k.d_out.size(0), columns,
                   [&](std::int64_t begin, std::int64_t end) {
                     for (std::int64_t i = begin; i < end; ++i) {
                       const W product =
                           gradient_row(row_of(gate_up, k.gate_up, i),
                                        row_of(d_out, k.d_out, i),
                                        weighted ? weight[i] : W{1}, columns,
                                        row_of(d_gate_up, k.d_gate_up, i),
                                        row_of(activation, k.activation, i));
                       if (weighted) d_weight[i] = product;
                     }
                   });
  });
}

}  // namespace catena::cpu
