#include <dlfcn.h>

#include <array>
#include <map>
#include <oneapi/dnnl/dnnl.hpp>
#include <tuple>

#include "runtime/cpu/backend.h"
#include "runtime/cpu/blocked_matmul.h"

namespace catena::cpu {
namespace {

using internal::apart;
using internal::narrow_rows;
using internal::widen_rows;
using Memory = dnnl::memory;

// Rows of every product, short ones padded: how oneDNN orders a sum depends
// on the height and on the strides, and must be the same for every row. It
// also keeps primitives few however ragged the groups are.
constexpr std::int64_t kRows = 64;
// Sums over rows of data are taken so many rows at a time.
constexpr std::int64_t kMostTerms = 1024;

// A pool's piece is one thread's work: oneDNN must not start a team of its
// own inside. The function is found at run time, as only oneDNN is linked to
// an OpenMP library, and which one is the distribution's choice.
void prepare_thread() {
  thread_local const bool done = [] {
    using SetThreads = void (*)(int);
    void* const found = dlsym(RTLD_DEFAULT, "omp_set_num_threads");
    if (found != nullptr) reinterpret_cast<SetThreads>(found)(1);
    return true;
  }();
  static_cast<void>(done);
}

const dnnl::engine& engine() {
  static const dnnl::engine cpu(dnnl::engine::kind::cpu, 0);
  return cpu;
}

Memory::data_type data_type(DType type) {
  return type == DType::kBFloat16 ? Memory::data_type::bf16
                                  : Memory::data_type::f32;
}

/// One primitive with its memory objects, for one thread.
class Compiled {
 public:
  explicit Compiled(const Product& p) : stream_(engine()) {
    const auto layout = [](std::int64_t rows, std::int64_t columns,
                           std::int64_t row, bool transposed, DType type) {
      const Memory::dims strides =
          transposed ? Memory::dims{1, row} : Memory::dims{row, 1};
      return Memory::desc({rows, columns}, data_type(type), strides);
    };
    dnnl::primitive_attr attributes;
    // The library's own scratch memory is slow from several threads.
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    if (p.accumulate) {
      dnnl::post_ops sum;
      sum.append_sum(1.0f);
      attributes.set_post_ops(sum);
    }
    const dnnl::matmul::primitive_desc description(
        dnnl::matmul::desc(layout(p.m, p.k, p.a_row, p.transpose_a, p.type),
                           layout(p.k, p.n, p.b_row, p.transpose_b, p.type),
                           layout(p.m, p.n, p.c_row, false, p.c_type)),
        attributes, engine());
    primitive_ = dnnl::matmul(description);
    scratch_bytes_ =
        static_cast<std::int64_t>(description.scratchpad_desc().get_size());
    const auto bind = [&](std::size_t at, int argument,
                          const Memory::desc& desc) {
      memories_[at] = Memory(desc, engine(), nullptr);
      arguments_[at] = {argument, memories_[at].get()};
    };
    bind(0, DNNL_ARG_SRC, description.src_desc());
    bind(1, DNNL_ARG_WEIGHTS, description.weights_desc());
    bind(2, DNNL_ARG_DST, description.dst_desc());
    bind(3, DNNL_ARG_SCRATCHPAD, description.scratchpad_desc());
  }

  void execute(const Product& p, Scratch& scratch) {
    memories_[0].set_data_handle(const_cast<void*>(p.a));
    memories_[1].set_data_handle(const_cast<void*>(p.b));
    memories_[2].set_data_handle(p.c);
    memories_[3].set_data_handle(scratch.get<char>(scratch_bytes_));
    dnnl::error::wrap_c_api(
        dnnl_primitive_execute(primitive_.get(), stream_.get(),
                               static_cast<int>(arguments_.size()),
                               arguments_.data()),
        "could not execute a matrix product");
  }

 private:
  dnnl::stream stream_;
  dnnl::matmul primitive_;
  std::int64_t scratch_bytes_ = 0;
  std::array<Memory, 4> memories_;
  std::array<dnnl_exec_arg_t, 4> arguments_{};
};

// Generated code is shared by oneDNN's own cache; each thread keeps its memory
// objects beside it, so that a call neither locks nor allocates.
void execute(const Product& p) {
  using Key = std::tuple<std::int64_t, std::int64_t, std::int64_t, std::int64_t,
                         std::int64_t, std::int64_t, int, int, int>;
  prepare_thread();
  thread_local std::map<Key, Compiled> compiled;
  thread_local Scratch scratch;
  const int flags = p.transpose_a + 2 * p.transpose_b + 4 * p.accumulate;
  const Key key{p.m,
                p.n,
                p.k,
                p.a_row,
                p.b_row,
                p.c_row,
                flags,
                static_cast<int>(p.type),
                static_cast<int>(p.c_type)};
  try {
    auto found = compiled.find(key);
    if (found == compiled.end()) {
      found = compiled.try_emplace(key, p).first;
    }
    found->second.execute(p, scratch);
  } catch (const dnnl::error& error) {
    fail(ErrorKind::kInternal, "[matmul] oneDNN on {} x {} x {}: {}", p.m, p.n,
         p.k, error.what());
  }
}

template <class T>
T* copy_rows(const void* from, std::int64_t from_row, std::int64_t rows,
             std::int64_t columns, std::int64_t padded, std::int64_t to_row,
             Scratch& scratch) {
  T* const to = scratch.get<T>(padded * to_row);
  for (std::int64_t i = 0; i < rows; ++i) {
    std::memcpy(to + i * to_row, static_cast<const T*>(from) + i * from_row,
                static_cast<std::size_t>(columns) * sizeof(T));
  }
  std::memset(to + rows * to_row, 0,
              static_cast<std::size_t>((padded - rows) * to_row) * sizeof(T));
  return to;
}

template <class T, class C>
void multiply_rows(const Product& p) {
  thread_local Scratch left, result;
  for (std::int64_t row = 0; row < p.m; row += kRows) {
    const std::int64_t rows = std::min(p.m - row, kRows);
    Product q = p.part(row, rows, 0, p.n);
    q.m = kRows;
    if (rows == kRows) {
      execute(q);
      continue;
    }
    C* const c = static_cast<C*>(q.c);
    q.a = copy_rows<T>(q.a, p.a_row, rows, p.k, kRows, p.a_row, left);
    q.c = copy_rows<C>(c, p.c_row, p.accumulate ? rows : 0, p.n, kRows, p.c_row,
                       result);
    execute(q);
    for (std::int64_t i = 0; i < rows; ++i) {
      std::memcpy(c + i * p.c_row, static_cast<C*>(q.c) + i * p.c_row,
                  static_cast<std::size_t>(p.n) * sizeof(C));
    }
  }
}

// Rows of data are summed over: c [m, n] float, in blocks of rows, the last
// one padded with zeros that add nothing.
template <class T>
void multiply_transposed(const Product& p) {
  thread_local Scratch left, right;
  Product q = p;
  for (std::int64_t k = 0; k < p.k; k += kMostTerms) {
    const std::int64_t terms = std::min(p.k - k, kMostTerms);
    q.k = (terms + 31) / 32 * 32;
    q.a = static_cast<const T*>(p.a) + k * p.a_row;
    q.b = static_cast<const T*>(p.b) + k * p.b_row;
    q.a_row = p.a_row;
    q.b_row = p.b_row;
    q.accumulate = p.accumulate || k > 0;
    if (q.k != terms) {
      q.a_row = apart<T>(p.m);
      q.b_row = apart<T>(p.n);
      q.a = copy_rows<T>(q.a, p.a_row, terms, p.m, q.k, q.a_row, left);
      q.b = copy_rows<T>(q.b, p.b_row, terms, p.n, q.k, q.b_row, right);
    }
    execute(q);
  }
}

template <class T>
void multiply_checked(const Product& p) {
  if (p.c_type == DType::kBFloat16 && (p.transpose_a || p.accumulate)) {
    // Partial sums are not rounded.
    thread_local Scratch scratch;
    Product q = p;
    q.c_row = apart<float>(p.n);
    q.c_type = DType::kFloat32;
    float* const sums = scratch.get<float>(p.m * q.c_row);
    q.c = sums;
    auto* const c = static_cast<BFloat16*>(p.c);
    if (p.accumulate) {
      widen_rows(c, p.c_row, p.m, p.n, sums, q.c_row);
    }
    multiply_checked<T>(q);
    return narrow_rows(sums, q.c_row, p.m, p.n, c, p.c_row);
  }
  if (p.transpose_a) return multiply_transposed<T>(p);
  if (p.c_type == DType::kBFloat16) return multiply_rows<T, BFloat16>(p);
  multiply_rows<T, float>(p);
}

bool multiplies_bfloat16() {
  static const bool native = [] {
    const auto has = static_cast<unsigned>(dnnl::get_effective_cpu_isa());
    const auto wanted = static_cast<unsigned>(dnnl::cpu_isa::avx512_core_bf16);
    return (has & wanted) == wanted;
  }();
  return native;
}

}  // namespace

void multiply_by_library(const Product& p) {
  if (p.m == 0 || p.n == 0) return;
  if (p.type == DType::kFloat64 || p.k == 0 ||
      (p.transpose_a && p.transpose_b)) {
    return blocked_multiply(p);
  }
  if (p.type == DType::kBFloat16) return multiply_checked<BFloat16>(p);
  multiply_checked<float>(p);
}

void multiply(const Product& p) {
  if (p.type == DType::kBFloat16 && multiplies_bfloat16()) {
    return multiply_by_library(p);
  }
  blocked_multiply(p);
}

std::string matmul_description() {
  if (!multiplies_bfloat16()) return "portable loops";
  const dnnl_version_t* const version = dnnl_version();
  return fmt::format("oneDNN {}.{}.{} for bfloat16", version->major,
                     version->minor, version->patch);
}

}  // namespace catena::cpu
