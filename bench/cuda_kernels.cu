// catena-bench-cuda: bandwidth of the CUDA kernels on GPU 0 beside that of a
// copy on the device, in turn, round after round. Bytes are those a kernel
// must read and write at least. Prints a line for each:
//   name rows columns median lowest highest   (GB/s over the rounds)
// Build: ninja -C build catena-bench-cuda; it needs a GPU to run.

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "runtime/cuda/rms_norm.h"

namespace catena::cuda {
namespace {

constexpr int kRounds = 9;
constexpr int kCalls = 20;

void check(cudaError_t code, const char* what) {
  if (code == cudaSuccess) return;
  std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(code));
  std::exit(1);
}

/// Of either sign, in size from 2^-7 to 2, as bfloat16 and as float32.
__global__ void fill(std::uint32_t* words, std::int64_t count) {
  const std::int64_t step = std::int64_t{gridDim.x} * blockDim.x;
  for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
       i < count; i += step) {
    std::uint32_t bits = static_cast<std::uint32_t>(i) * 2654435761u;
    bits = (bits ^ bits >> 15) * 2246822519u;
    words[i] = 0x3c003c00u | ((bits ^ bits >> 13) & 0x83ff83ffu);
  }
}

class Memory {
 public:
  explicit Memory(std::int64_t bytes) {
    check(cudaMalloc(&data_, static_cast<std::size_t>(bytes)), "cudaMalloc");
    fill<<<1024, 256>>>(static_cast<std::uint32_t*>(data_), bytes / 4);
    check(cudaDeviceSynchronize(), "fill");
  }
  ~Memory() { cudaFree(data_); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  [[nodiscard]] void* get() const { return data_; }

 private:
  void* data_ = nullptr;
};

struct Subject {
  std::string name;
  double bytes;
  std::function<void()> call;
  std::vector<double> rates = {};
};

double gigabytes_a_second(const Subject& subject, cudaStream_t stream) {
  cudaEvent_t begin, end;
  check(cudaEventCreate(&begin), "event");
  check(cudaEventCreate(&end), "event");
  check(cudaEventRecord(begin, stream), "record");
  for (int i = 0; i < kCalls; ++i) subject.call();
  check(cudaEventRecord(end, stream), "record");
  check(cudaEventSynchronize(end), subject.name.c_str());
  check(cudaGetLastError(), subject.name.c_str());
  float milliseconds = 0;
  check(cudaEventElapsedTime(&milliseconds, begin, end), "elapsed");
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  return subject.bytes * kCalls / (milliseconds * 1e6);
}

void measure(std::int64_t rows, std::int64_t columns) {
  const std::int64_t n = rows * columns, size = 2;  // bfloat16
  const Memory x(n * size), out(n * size), d_out(n * size), d_x(n * size);
  const Memory weight(columns * 4), d_weight(columns * 4), inverse(rows * 4);
  const Memory partial(rms_norm_parts(rows) * columns * 4);
  cudaStream_t stream = nullptr;
  check(cudaStreamCreate(&stream), "stream");
  const RmsNormArguments forward{.dtype = DType::kBFloat16,
                                 .rows = rows,
                                 .columns = columns,
                                 .x = x.get(),
                                 .x_stride = columns,
                                 .residual = nullptr,
                                 .residual_stride = columns,
                                 .weight = weight.get(),
                                 .out = out.get(),
                                 .out_stride = columns,
                                 .inverse_rms = inverse.get(),
                                 .epsilon = 1e-6};
  const RmsNormGradientArguments backward{.dtype = DType::kBFloat16,
                                          .rows = rows,
                                          .columns = columns,
                                          .d_out = d_out.get(),
                                          .d_out_stride = columns,
                                          .x = x.get(),
                                          .x_stride = columns,
                                          .weight = weight.get(),
                                          .inverse_rms = inverse.get(),
                                          .d_x = d_x.get(),
                                          .d_x_stride = columns,
                                          .d_weight = d_weight.get(),
                                          .accumulate = false,
                                          .partial = partial.get()};
  RmsNormArguments residual = forward;
  residual.residual = d_out.get();
  RmsNormGradientArguments accumulate = backward;
  accumulate.accumulate = true;
  const double array = static_cast<double>(n * size);
  std::vector<Subject> subjects;
  subjects.push_back({"copy", 2 * array, [&] {
                        check(cudaMemcpyAsync(out.get(), x.get(),
                                              static_cast<std::size_t>(array),
                                              cudaMemcpyDeviceToDevice, stream),
                              "copy");
                      }});
  subjects.push_back(
      {"rms_norm", 2 * array, [&] { rms_norm(forward, stream); }});
  subjects.push_back({"rms_norm_gradient", 3 * array,
                      [&] { rms_norm_gradient(backward, stream); }});
  subjects.push_back(
      {"rms_norm_residual", 4 * array, [&] { rms_norm(residual, stream); }});
  subjects.push_back({"rms_norm_gradient_accumulate", 4 * array,
                      [&] { rms_norm_gradient(accumulate, stream); }});
  for (int round = -1; round < kRounds; ++round) {
    for (Subject& subject : subjects) {
      const double rate = gigabytes_a_second(subject, stream);
      if (round >= 0) subject.rates.push_back(rate);
    }
  }
  for (Subject& subject : subjects) {
    std::sort(subject.rates.begin(), subject.rates.end());
    std::printf("%s %lld %lld %.0f %.0f %.0f\n", subject.name.c_str(),
                static_cast<long long>(rows), static_cast<long long>(columns),
                subject.rates[kRounds / 2], subject.rates.front(),
                subject.rates.back());
  }
  cudaStreamDestroy(stream);
}

}  // namespace
}  // namespace catena::cuda

int main() {
  cudaDeviceProp properties{};
  catena::cuda::check(cudaGetDeviceProperties(&properties, 0), "GPU 0");
  std::printf("# %s, bfloat16, GB/s: median lowest highest\n", properties.name);
  catena::cuda::measure(32768, 1024);
  catena::cuda::measure(131072, 1024);
  catena::cuda::measure(32768, 4096);
}
