#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "runtime/base/machine.h"
#include "training/commands/doctor/finding.h"
#include "training/estimate.h"
#include "training/metrics.h"

namespace catena::doctor {
namespace {

namespace fs = std::filesystem;

Finding processor(const Backend& backend) {
  const bool built = backend.description().find("AVX-512") != std::string::npos;
  const bool here = has_processor_flag("avx512f");
  const bool native = backend.fast_type() == DType::kBFloat16;
  const std::string value =
      fmt::format("{}; {}", processor_name(), backend.description());
  if (here && !built) {
    return {"processor", Mark::kNote, value,
            "it has AVX-512, this build does not use it: build here"};
  }
  if (native) {
    return {"processor", Mark::kGood, value,
            "bfloat16 is about twice as fast as float32: precision auto is "
            "bfloat16"};
  }
  return {"processor", Mark::kGood, value,
          "no native bfloat16: precision auto is float32"};
}

/// Those that matter to matrix products, of x86 and Arm.
Finding instructions() {
  static constexpr const char* kWanted[] = {
      "avx2",     "fma",      "f16c",        "avx512f",     "avx512bw",
      "avx512dq", "avx512vl", "avx512_bf16", "avx512_fp16", "avx512_vnni",
      "avx_vnni", "amx_tile", "amx_bf16",    "amx_int8",    "asimd",
      "sve",      "sve2",     "bf16",        "i8mm"};
  std::string there;
  for (const char* flag : kWanted) {
    if (has_processor_flag(flag)) there += fmt::format(" {}", flag);
  }
  if (there.empty()) {
    return {"instructions", Mark::kNote, "unknown",
            "the kernel does not list them"};
  }
  return {"instructions", Mark::kGood, there.substr(1), ""};
}

/// "L1 data 48K, ...": those of the first core.
Finding caches() {
  const fs::path folder = "/sys/devices/system/cpu/cpu0/cache";
  std::string value;
  for (int i = 0; fs::exists(folder / fmt::format("index{}", i)); ++i) {
    const fs::path cache = folder / fmt::format("index{}", i);
    std::string level, type, size, cores;
    std::ifstream(cache / "level") >> level;
    std::ifstream(cache / "type") >> type;
    std::ifstream(cache / "size") >> size;
    std::ifstream(cache / "shared_cpu_list") >> cores;
    value += fmt::format("{}L{} {} {} of cores {}", value.empty() ? "" : ", ",
                         level, type, size, cores);
  }
  return {"caches", value.empty() ? Mark::kNote : Mark::kGood,
          value.empty() ? "unknown" : value, ""};
}

Finding cores() {
  const int mine = available_cores();
  const auto online = static_cast<int>(::sysconf(_SC_NPROCESSORS_ONLN));
  std::string value = fmt::format("{} of {} ({})", mine, online, core_list());
  const double quota = core_quota();
  if (quota > 0) value += fmt::format(", of which {:.1f} may be busy", quota);
  if (quota > 0 && quota < mine) {
    return {"cores", Mark::kNote, value,
            fmt::format("a control group stops more: set train.threads={}",
                        std::max(1, static_cast<int>(quota)))};
  }
  if (mine < online) {
    return {"cores", Mark::kNote, value,
            "this process is bound to some of them (taskset, a container or a "
            "scheduler)"};
  }
  return {"cores", Mark::kGood, value, ""};
}

Finding load() {
  double average[1] = {0};
  if (::getloadavg(average, 1) != 1) {
    return {"load", Mark::kNote, "unknown", ""};
  }
  const std::string value = fmt::format("{:.2f}", average[0]);
  if (average[0] > 0.5 * available_cores()) {
    return {"load", Mark::kNote, value,
            "others are computing: speeds measured now are too low"};
  }
  return {"load", Mark::kGood, value, ""};
}

Finding speed(Backend& backend, DType dtype) {
  return {dtype == DType::kFloat32 ? "float32 speed" : "bfloat16 speed",
          Mark::kGood,
          fmt::format("{}FLOP/s in a 1024-cubed product",
                      human_number(probe_peak_flops(backend, dtype))),
          ""};
}

}  // namespace

Findings processor_findings(const Backend& backend) {
  return {processor(backend), instructions(), caches(), cores(), load()};
}

Findings speed_findings(Backend& backend) {
  return {speed(backend, DType::kFloat32), speed(backend, DType::kBFloat16)};
}

}  // namespace catena::doctor
