#include "runtime/base/error.h"
#include "training/commands/doctor/ask.h"
#include "training/commands/doctor/finding.h"
#include "training/metrics.h"

namespace catena::doctor {
namespace {

/// What is used of NVIDIA's management library, as its header declares it.
struct Nvml {
  using Device = struct NvmlDevice*;
  struct Memory {
    unsigned long long total, free, used;
  };
  struct Utilization {
    unsigned gpu, memory;
  };
  using Init = int();
  using Text = int(char*, unsigned);
  using Version = int(int*);
  using Count = int(unsigned*);
  using Handle = int(unsigned, Device*);
  using Name = int(Device, char*, unsigned);
  using MemoryInfo = int(Device, Memory*);
  using Rates = int(Device, Utilization*);
  using Temperature = int(Device, int, unsigned*);
};

/// Calls a function of a library; false if it is not there or fails.
template <class Function, class... Arguments>
bool call(const Library& library, const char* name, Arguments... arguments) {
  auto* const function = library.find<Function>(name);
  return function != nullptr && function(arguments...) == 0;
}

/// "GPU 0 NVIDIA H100: 78.5 GiB of 79.6 GiB free, 0 % busy, 31 C".
std::string describe(const Library& nvml, unsigned number) {
  Nvml::Device device = nullptr;
  std::string text = fmt::format("GPU {}", number);
  if (!call<Nvml::Handle>(nvml, "nvmlDeviceGetHandleByIndex_v2", number,
                          &device)) {
    return text + " does not answer";
  }
  char name[96] = "";
  if (call<Nvml::Name>(nvml, "nvmlDeviceGetName", device, name,
                       static_cast<unsigned>(sizeof name))) {
    text += fmt::format(" {}", name);
  }
  Nvml::Memory memory{};
  if (call<Nvml::MemoryInfo>(nvml, "nvmlDeviceGetMemoryInfo", device,
                             &memory)) {
    text += fmt::format(": {} of {} free",
                        human_bytes(static_cast<std::int64_t>(memory.free)),
                        human_bytes(static_cast<std::int64_t>(memory.total)));
  }
  Nvml::Utilization rates{};
  if (call<Nvml::Rates>(nvml, "nvmlDeviceGetUtilizationRates", device,
                        &rates)) {
    text += fmt::format(", {} % busy", rates.gpu);
  }
  unsigned celsius = 0;
  if (call<Nvml::Temperature>(nvml, "nvmlDeviceGetTemperature", device, 0,
                              &celsius)) {
    text += fmt::format(", {} C", celsius);
  }
  return text;
}

Finding driver() {
  const Library nvml("libnvidia-ml.so.1");
  if (!nvml.loaded()) {
    return {"CUDA driver", Mark::kNote, "none",
            "no libnvidia-ml.so.1: no NVIDIA driver on this machine"};
  }
  if (!call<Nvml::Init>(nvml, "nvmlInit_v2")) {
    return {"CUDA driver", Mark::kNote, "does not answer",
            "libnvidia-ml.so.1 is there, the kernel's part is not, or is of "
            "another version"};
  }
  char version[96] = "unknown";
  int cuda = 0;
  unsigned count = 0;
  call<Nvml::Text>(nvml, "nvmlSystemGetDriverVersion", version,
                   static_cast<unsigned>(sizeof version));
  call<Nvml::Version>(nvml, "nvmlSystemGetCudaDriverVersion", &cuda);
  call<Nvml::Count>(nvml, "nvmlDeviceGetCount_v2", &count);
  std::string value = fmt::format("{}, for CUDA up to {}.{}", version,
                                  cuda / 1000, cuda % 1000 / 10);
  for (unsigned i = 0; i < count; ++i) value += "; " + describe(nvml, i);
  call<Nvml::Init>(nvml, "nvmlShutdown");
  return {"CUDA driver", Mark::kGood, value, ""};
}

/// "13.0" of "... release 13.0, V13.0.88".
Finding toolkit() {
  for (const char* nvcc : {"nvcc", "/usr/local/cuda/bin/nvcc"}) {
    const auto answer = ask({nvcc, "--version"});
    if (!answer.has_value()) continue;
    constexpr std::string_view kBefore = "release ";
    const auto begin = answer->find(kBefore);
    if (begin == std::string::npos) continue;
    const auto from = begin + kBefore.size();
    return {"CUDA toolkit", Mark::kGood,
            answer->substr(from, answer->find_first_of(",\n", from) - from),
            ""};
  }
  return {"CUDA toolkit", Mark::kNote, "none",
          "no nvcc: programs built here have no CUDA backend"};
}

Finding backend() {
  try {
    const auto made = make_cuda_backend(0);
    return {"CUDA", Mark::kNote, made->description(),
            "training on GPUs is not there yet: runs use the CPU"};
  } catch (const Error& error) {
    return {"CUDA", Mark::kNote, "none", error.what()};
  }
}

Finding nccl() {
  constexpr const char* kName = "libnccl.so.2";
  constexpr const char* kUse =
      "not used: ranks exchange by shared memory, Gloo or MPI so far";
  const Library library(kName);
  if (!library.loaded()) return {"NCCL", Mark::kNote, "none", kUse};
  int version = 0;
  if (!call<int(int*)>(library, "ncclGetVersion", &version)) {
    return {"NCCL", Mark::kNote, fmt::format("{} tells no version", kName),
            kUse};
  }
  // 2.8.4 says 2804, 2.9.6 and later ones 20906.
  const int thousand = version < 10000 ? 1000 : 10000;
  return {"NCCL", Mark::kNote,
          fmt::format("{}.{}.{}", version / thousand, version % thousand / 100,
                      version % 100),
          kUse};
}

}  // namespace

Findings gpu_findings() { return {toolkit(), driver(), backend(), nccl()}; }

}  // namespace catena::doctor
