#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "runtime/backend.h"
#include "runtime/base/random.h"

/// What tests of kernels share. Values travel as float64 vectors in row-major
/// order: every element type used here converts to float64 exactly.
namespace catena::testing {

using Values = std::vector<double>;

/// A tensor on any backend, filled from and read into float64. With `padding`
/// the rows (the outermost dimension of two or more) stand that many elements
/// further apart than they need to; the gap holds 0xff bytes, NaN if read as a
/// floating number.
class TestTensor {
 public:
  TestTensor(Backend& backend, DType dtype, const Shape& shape,
             std::int64_t padding = 0)
      : backend_(&backend) {
    const int dimensions = shape.dimensions;
    if (dimensions < 2) padding = 0;
    std::int64_t row = 1;
    for (int d = 1; d < dimensions; ++d) row *= shape[d];
    const std::int64_t rows = dimensions > 0 ? shape[0] : 1;
    bytes_ =
        static_cast<std::size_t>(rows * (row + padding) * size_bytes(dtype));
    data_ = backend.allocate(std::max<std::size_t>(bytes_, 1));
    const std::vector<unsigned char> gap(bytes_, 0xff);
    backend.copy_from_host(data_, gap.data(), bytes_);
    view_ =
        padding == 0
            ? TensorView(data_, dtype, shape)
            : TensorView(data_, dtype, {rows, row + padding}).slice(1, 0, row);
    if (padding != 0 && dimensions == 3) {
      view_ = view_.split_last(shape[1], shape[2]);
    }
  }
  TestTensor(Backend& backend, DType dtype, const Shape& shape,
             const Values& values, std::int64_t padding = 0)
      : TestTensor(backend, dtype, shape, padding) {
    set(values);
  }
  TestTensor(TestTensor&& other) noexcept
      : backend_(std::exchange(other.backend_, nullptr)),
        data_(other.data_),
        bytes_(other.bytes_),
        view_(other.view_) {}
  TestTensor& operator=(TestTensor&&) = delete;
  ~TestTensor() {
    if (backend_ != nullptr)
      backend_->release(data_, std::max<std::size_t>(bytes_, 1));
  }

  [[nodiscard]] const TensorView& view() const { return view_; }
  operator const TensorView&() const { return view_; }  // NOLINT

  /// Rounded to the element type.
  void set(const Values& values) {
    ASSERT_EQ(static_cast<std::int64_t>(values.size()), view_.elements());
    std::vector<char> host = to_host();
    std::size_t next = 0;
    for_each_offset([&](std::int64_t offset) {
      store(host.data() + offset * size_bytes(view_.dtype()), values[next++]);
    });
    backend_->copy_from_host(data_, host.data(), bytes_);
  }

  [[nodiscard]] Values values() const {
    const std::vector<char> host = to_host();
    Values result;
    result.reserve(static_cast<std::size_t>(view_.elements()));
    for_each_offset([&](std::int64_t offset) {
      result.push_back(load(host.data() + offset * size_bytes(view_.dtype())));
    });
    return result;
  }

  /// Whether nobody wrote between the rows.
  [[nodiscard]] bool padding_intact() const {
    std::vector<char> host = to_host();
    const auto size = static_cast<std::size_t>(size_bytes(view_.dtype()));
    for_each_offset([&](std::int64_t offset) {
      std::memset(host.data() + static_cast<std::size_t>(offset) * size, 0xff,
                  size);
    });
    for (const char byte : host) {
      if (byte != '\xff') return false;
    }
    return true;
  }

 private:
  [[nodiscard]] std::vector<char> to_host() const {
    std::vector<char> host(bytes_);
    backend_->copy_to_host(host.data(), data_, bytes_);
    return host;
  }

  template <class Visit>
  void for_each_offset(const Visit& visit, int d = 0,
                       std::int64_t offset = 0) const {
    if (d == view_.dimensions()) return visit(offset);
    for (std::int64_t i = 0; i < view_.size(d); ++i) {
      for_each_offset(visit, d + 1, offset + i * view_.stride(d));
    }
  }

  template <class T>
  static T read(const char* from) {
    T value;
    std::memcpy(&value, from, sizeof value);
    return value;
  }
  [[nodiscard]] double load(const char* from) const {
    switch (view_.dtype()) {
      case DType::kFloat32:
        return read<float>(from);
      case DType::kBFloat16:
        return static_cast<float>(read<BFloat16>(from));
      case DType::kFloat64:
        return read<double>(from);
      case DType::kInt32:
        return read<std::int32_t>(from);
      case DType::kInt64:
        return static_cast<double>(read<std::int64_t>(from));
    }
    return 0;
  }

  template <class T>
  static void write(char* to, T value) {
    std::memcpy(to, &value, sizeof value);
  }
  void store(char* to, double value) const {
    switch (view_.dtype()) {
      case DType::kFloat32:
        return write(to, static_cast<float>(value));
      case DType::kBFloat16:
        return write(to, BFloat16(static_cast<float>(value)));
      case DType::kFloat64:
        return write(to, value);
      case DType::kInt32:
        return write(to, static_cast<std::int32_t>(value));
      case DType::kInt64:
        return write(to, static_cast<std::int64_t>(value));
    }
  }

  Backend* backend_;
  void* data_ = nullptr;
  std::size_t bytes_ = 0;
  TensorView view_;
};

/// The CPU with so many threads; lives until the program ends.
inline Backend& cpu(int threads) {
  static std::vector<std::unique_ptr<Backend>> backends(16);
  auto& backend = backends.at(static_cast<std::size_t>(threads));
  if (backend == nullptr) backend = make_cpu_backend(threads);
  return *backend;
}

/// Standard normal times `scale`, a function of the arguments alone.
inline Values random_values(std::int64_t count, std::uint64_t stream,
                            double scale = 1) {
  const Random random(20240517, stream);
  Values values(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = scale * random.normal(i);
  }
  return values;
}

/// Uniform integers in [low, high).
inline Values random_integers(std::int64_t count, std::uint64_t stream,
                              std::int64_t low, std::int64_t high) {
  const Random random(20240518, stream);
  Values values(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<double>(low) +
                std::floor(random.uniform(i) * static_cast<double>(high - low));
  }
  return values;
}

/// Draws the sizes of a random shape; a function of `seed` and the order of
/// the calls.
class Sizes {
 public:
  explicit Sizes(std::uint64_t seed) : random_(20240519, seed) {}

  /// In [low, high]. Every other size lies where loops end: nothing, one, a
  /// small power of two (a vector of some machine) or a neighbour of it.
  std::int64_t operator()(std::int64_t low, std::int64_t high) {
    const std::int64_t edges[] = {0,  1,  2,  3,  7,  8,  9,  15, 16,
                                  17, 31, 32, 33, 63, 64, 65, 127};
    const double kind = random_.uniform(next_++), at = random_.uniform(next_++);
    std::vector<std::int64_t> sizes;
    for (const std::int64_t edge : edges) {
      if (low <= edge && edge <= high) sizes.push_back(edge);
    }
    const bool on_edge = kind < 0.5 && !sizes.empty();
    const auto size = on_edge
                          ? sizes[static_cast<std::size_t>(
                                at * static_cast<double>(sizes.size()))]
                          : low + static_cast<std::int64_t>(
                                      at * static_cast<double>(high - low + 1));
    drawn_ += fmt::format(" {}", size);
    return size;
  }
  bool flag() { return (*this)(0, 1) == 1; }
  /// What was drawn so far, for messages.
  [[nodiscard]] const std::string& drawn() const { return drawn_; }

 private:
  Random random_;
  std::uint64_t next_ = 0;
  std::string drawn_;
};

/// Calls test(sizes) for two dozen seeds, up to the first that fails.
template <class Test>
void for_random_shapes(const Test& test) {
  for (std::uint64_t seed = 0; seed < 24; ++seed) {
    Sizes sizes(seed);
    test(sizes);
    ASSERT_FALSE(::testing::Test::HasFailure())
        << "random shape " << seed << ":" << sizes.drawn();
  }
}

/// The values as that element type holds them.
inline Values rounded(DType dtype, Values values) {
  const auto count = static_cast<std::int64_t>(values.size());
  return TestTensor(cpu(1), dtype, {count}, values).values();
}

/// Relative error that sums of a few hundred terms may have: 2^13, 2^7 and
/// 2^1 roundings of the type.
inline double tolerance(DType dtype) {
  switch (dtype) {
    case DType::kFloat64:
      return 1e-12;
    case DType::kFloat32:
      return 1e-5;
    case DType::kBFloat16:
      return 1e-2;
    case DType::kInt32:
      return 0;
    case DType::kInt64:
      return 0;
  }
  return 0;
}

/// Compares in relative L2 norm and, at four times the limit, element by
/// element relative to the largest one (bfloat16 rounds single elements).
inline void expect_close(const Values& actual, const Values& expected,
                         double limit, const std::string& what) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  double error = 0, norm = 0, largest = 0, worst = 0;
  std::size_t worst_index = 0;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    const double difference = std::abs(actual[i] - expected[i]);
    ASSERT_FALSE(std::isnan(difference))
        << what << ": element " << i << " is " << actual[i] << ", expected "
        << expected[i];
    error += difference * difference;
    norm += expected[i] * expected[i];
    largest = std::max(largest, std::abs(expected[i]));
    if (difference > worst) {
      worst = difference;
      worst_index = i;
    }
  }
  EXPECT_LE(std::sqrt(error), limit * std::sqrt(norm)) << what;
  if (worst > 4 * limit * largest) {
    ADD_FAILURE() << what << ": element " << worst_index << " is "
                  << actual[worst_index] << ", expected "
                  << expected[worst_index];
  }
}

inline void expect_close(const TestTensor& actual, const Values& expected,
                         const std::string& what) {
  expect_close(actual.values(), expected, tolerance(actual.view().dtype()),
               what);
  EXPECT_TRUE(actual.padding_intact()) << what << ": written between rows";
}

/// Runs `body` (Backend& -> Values of all outputs, one after the other) with
/// 1, 2 and 3 threads and expects the same bits.
inline void expect_same_for_any_threads(
    const std::function<Values(Backend&)>& body) {
  const Values one = body(cpu(1));
  for (const int threads : {2, 3}) {
    const Values other = body(cpu(threads));
    ASSERT_EQ(one.size(), other.size());
    EXPECT_TRUE(one.empty() || std::memcmp(one.data(), other.data(),
                                           one.size() * sizeof(double)) == 0)
        << "results differ between 1 and " << threads << " threads";
  }
}

/// Central differences of `function` at `point`.
inline Values numeric_gradient(
    const std::function<double(const Values&)>& function, Values point,
    double step = 1e-5) {
  Values gradient(point.size());
  for (std::size_t i = 0; i < point.size(); ++i) {
    const double value = point[i];
    point[i] = value + step;
    const double above = function(point);
    point[i] = value - step;
    const double below = function(point);
    point[i] = value;
    gradient[i] = (above - below) / (2 * step);
  }
  return gradient;
}

/// Rounding and the third derivative leave about this much of a float64
/// central difference.
inline constexpr double kDifferenceTolerance = 2e-8;

inline double dot(const Values& a, const Values& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

inline void append(Values& to, const Values& from) {
  to.insert(to.end(), from.begin(), from.end());
}

/// A test of one kernel for each floating type:
///   using NameTest = KernelTest;
///   TEST_P(NameTest, AgreesWithLoop) { ... dtype() ... }
///   CATENA_FOR_FLOATING_TYPES(NameTest);
class KernelTest : public ::testing::TestWithParam<DType> {
 protected:
  [[nodiscard]] static DType dtype() { return GetParam(); }
  [[nodiscard]] static DType wide_dtype() { return wide(GetParam()); }
};

inline std::string dtype_suffix(
    const ::testing::TestParamInfo<DType>& parameter) {
  return std::string(name(parameter.param));
}

}  // namespace catena::testing

#define CATENA_FOR_FLOATING_TYPES(suite)                                       \
  INSTANTIATE_TEST_SUITE_P(                                                    \
      Types, suite,                                                            \
      ::testing::Values(::catena::DType::kFloat32, ::catena::DType::kBFloat16, \
                        ::catena::DType::kFloat64),                            \
      ::catena::testing::dtype_suffix)
