#include "runtime/backend.h"

#include <algorithm>

#include "runtime/cuda/check.h"
#include "runtime/cuda/kernels.h"
#include "runtime/cuda/library.h"

namespace catena::cuda {
namespace {

/// Owns a stream that does not wait for the legacy one.
class Stream {
 public:
  Stream() {
    CATENA_CUDA(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
  }
  ~Stream() { cudaStreamDestroy(stream_); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  [[nodiscard]] cudaStream_t get() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

/// Makes `device` the calling thread's, or says in one line why it cannot be.
cudaDeviceProp select(int device) {
  int count = 0;
  const cudaError_t code = cudaGetDeviceCount(&count);
  if (code == cudaErrorInsufficientDriver) {
    fail(ErrorKind::kDevice,
         "no NVIDIA driver for CUDA {}.{} answers (cudaError 35); install "
         "one, or use the CPU",
         CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10);
  }
  if (code == cudaErrorNoDevice || (code == cudaSuccess && count == 0)) {
    fail(ErrorKind::kDevice, "no NVIDIA GPU on this machine; use the CPU");
  }
  CATENA_CUDA(code);
  if (device < 0 || device >= count) {
    fail(ErrorKind::kDevice, "GPU {} of {}; count from 0", device, count);
  }
  cudaDeviceProp properties{};
  CATENA_CUDA(cudaGetDeviceProperties(&properties, device));
  if (properties.major != 9 || properties.minor != 0) {
    fail(ErrorKind::kUnsupported,
         "GPU {} ({}) has compute capability {}.{}; this build has kernels "
         "for 9.0",
         device, properties.name, properties.major, properties.minor);
  }
  CATENA_CUDA(cudaSetDevice(device));
  return properties;
}

class CudaBackend final : public Backend {
 public:
  explicit CudaBackend(int device)
      : device_(device), properties_(select(device)) {}

  [[nodiscard]] DeviceKind kind() const override { return DeviceKind::kCuda; }

  [[nodiscard]] std::string description() const override {
    return fmt::format("CUDA device {}: {}, {} GiB", device_, properties_.name,
                       properties_.totalGlobalMem >> 30);
  }

  void copy_from_host(void* device, const void* host,
                      std::size_t bytes) override {
    CATENA_CUDA(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice,
                                stream_.get()));
    CATENA_CUDA(cudaStreamSynchronize(stream_.get()));
  }

  void copy_to_host(void* host, const void* device,
                    std::size_t bytes) override {
    CATENA_CUDA(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost,
                                stream_.get()));
    CATENA_CUDA(cudaStreamSynchronize(stream_.get()));
  }

  void clear(void* device, std::size_t bytes) override {
    CATENA_CUDA(cudaMemsetAsync(device, 0, bytes, stream_.get()));
  }

  [[nodiscard]] Kernels& kernels() override {
    CATENA_CUDA(cudaSetDevice(device_));
    return kernels_;
  }

 private:
  [[nodiscard]] void* take(std::size_t bytes) override {
    void* data = nullptr;
    CATENA_CUDA(cudaSetDevice(device_));
    CATENA_CUDA(cudaMalloc(&data, std::max<std::size_t>(bytes, 1)));
    return data;
  }

  /// Called from destructors, so an error is left for the next call to find.
  void give_back(void* data) override { cudaFree(data); }

  int device_;
  cudaDeviceProp properties_;
  Stream stream_;
  CudaKernels kernels_{stream_.get()};
};

Backend* make_backend(int device) { return new CudaBackend(device); }

}  // namespace
}  // namespace catena::cuda

extern "C" const catena::cuda::Library* catena_cuda_library() {
  static constexpr catena::cuda::Library kLibrary{
      .interface_hash = CATENA_CUDA_INTERFACE,
      .make_backend = catena::cuda::make_backend};
  return &kLibrary;
}
