#include "runtime/cpu/backend.h"
#include "runtime/cpu/rows.h"

namespace catena::cpu {
namespace {

template <class V>
V sigmoid(const V& x) {
  const V negative = -x;
  return 1 / (1 + exp(negative));
}

template <class T>
void forward_row(const T* gate, const T* up, std::int64_t columns, T* out) {
  using W = Wide<T>;
  for (std::int64_t c = 0; c < columns; c += kLanes<W>) {
    const std::int64_t left = columns - c;
    const Vector<W> g = load(gate + c, left);
    store(out + c, g * sigmoid(g) * load(up + c, left), left);
  }
}

/// Returns <d_out, a>. Every vector is read before it is written, so the
/// outputs may be the inputs.
template <class T>
Wide<T> gradient_row(const T* gate_up, const T* d_out, Wide<T> weight,
                     std::int64_t columns, T* d_gate_up, T* activation) {
  using W = Wide<T>;
  Vector<W> product{};
  for (std::int64_t c = 0; c < columns; c += kLanes<W>) {
    const std::int64_t left = columns - c;
    const Vector<W> g = load(gate_up + c, left);
    const Vector<W> u = load(gate_up + columns + c, left);
    const Vector<W> d = load(d_out + c, left);
    const Vector<W> s = sigmoid(g);
    const Vector<W> silu = g * s;
    const Vector<W> a = silu * u;
    product += d * a;
    const Vector<W> d_a = weight * d;
    store(d_gate_up + c, d_a * u * (s * (1 + g * (1 - s))), left);
    store(d_gate_up + columns + c, d_a * silu, left);
    store(activation + c, weight * a, left);
  }
  return sum<W>(product);
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
                       const T* const row = row_of(gate_up, k.gate_up, i);
                       fetch(row + 2 * k.gate_up.stride(0), 2 * columns);
                       forward_row(row, row + columns, columns,
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
                       const T* const row = row_of(gate_up, k.gate_up, i);
                       const T* const d_row = row_of(d_out, k.d_out, i);
                       fetch(row + 2 * k.gate_up.stride(0), 2 * columns);
                       fetch(d_row + 2 * k.d_out.stride(0), columns);
                       const W product = gradient_row(
                           row, d_row, weighted ? weight[i] : W{1}, columns,
                           row_of(d_gate_up, k.d_gate_up, i),
                           row_of(activation, k.activation, i));
                       if (weighted) d_weight[i] = product;
                     }
                   });
  });
}

}  // namespace catena::cpu
