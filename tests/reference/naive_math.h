#pragma once

#include <cmath>
#include <cstddef>
#include <vector>

/// Vector arithmetic for the naive model: one loop each.
namespace catena::naive {

using Values = std::vector<double>;

inline double dot(const Values& a, const Values& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

/// W x, W [out, in] row-major.
inline Values multiply(const Values& w, const Values& x) {
  Values y(w.size() / x.size(), 0.0);
  for (std::size_t row = 0; row < y.size(); ++row) {
    for (std::size_t column = 0; column < x.size(); ++column) {
      y[row] += w[row * x.size() + column] * x[column];
    }
  }
  return y;
}

inline Values part(const Values& x, std::size_t begin, std::size_t count) {
  const auto first = x.begin() + static_cast<std::ptrdiff_t>(begin);
  return {first, first + static_cast<std::ptrdiff_t>(count)};
}

inline Values joined(Values a, const Values& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

/// y += factor x
inline void add(Values& y, const Values& x, double factor = 1) {
  for (std::size_t i = 0; i < y.size(); ++i) y[i] += factor * x[i];
}

/// x / sqrt(mean(x^2) + epsilon) * weight
inline Values rms_norm(const Values& x, const Values& weight, double epsilon) {
  const double mean = dot(x, x) / static_cast<double>(x.size());
  Values y(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    y[i] = x[i] / std::sqrt(mean + epsilon) * weight[i];
  }
  return y;
}

/// log sum exp x, without overflow.
inline double log_sum_exp(const Values& x) {
  double largest = x[0];
  for (const double value : x) largest = std::fmax(largest, value);
  double sum = 0;
  for (const double value : x) sum += std::exp(value - largest);
  return largest + std::log(sum);
}

inline Values softmax(const Values& x) {
  const double log_sum = log_sum_exp(x);
  Values y(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) y[i] = std::exp(x[i] - log_sum);
  return y;
}

/// down(silu(gate x) * up x)
inline Values swiglu(const Values& gate, const Values& up, const Values& down,
                     const Values& x) {
  Values a = multiply(gate, x);
  const Values b = multiply(up, x);
  for (std::size_t i = 0; i < a.size(); ++i) {
    a[i] = a[i] / (1 + std::exp(-a[i])) * b[i];
  }
  return multiply(down, a);
}

}  // namespace catena::naive
