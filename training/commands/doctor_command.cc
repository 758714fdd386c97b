#include <dlfcn.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>

#include "launcher/contract.h"
#include "runtime/base/files.h"
#include "runtime/base/machine.h"
#include "training/commands/commands.h"
#include "training/estimate.h"
#include "training/metrics.h"

namespace catena {
namespace {

enum class Mark { kGood, kNote, kBad };

struct Finding {
  const char* name;
  Mark mark;
  std::string value, meaning;
};

const char* text(Mark mark) {
  switch (mark) {
    case Mark::kGood:
      return "ok";
    case Mark::kNote:
      return "note";
    case Mark::kBad:
      return "bad";
  }
  return "";
}

Finding compiler() {
#if defined(__OPTIMIZE__)
  return {"compiler", Mark::kGood, __VERSION__, ""};
#else
  return {"compiler", Mark::kBad, __VERSION__ " without optimisation",
          "many times slower: configure with -DCMAKE_BUILD_TYPE=Release"};
#endif
}

Finding instruction_set(const Backend& backend) {
  const bool built = backend.description().find("AVX-512") != std::string::npos;
  const bool here = __builtin_cpu_supports("avx512f") != 0;
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

Finding cores() {
  const int mine = available_cores();
  const auto online = static_cast<int>(::sysconf(_SC_NPROCESSORS_ONLN));
  const std::string value = fmt::format("{} of {}", mine, online);
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

Finding memory() {
  return {"memory", Mark::kGood, human_bytes(memory_limit_bytes()),
          "`catena plan CONFIG` says what a run takes of it"};
}

Finding huge_pages() {
  const char* path = "/sys/kernel/mm/transparent_hugepage/enabled";
  std::string value;
  std::getline(std::ifstream(path) >> std::ws, value);
  if (value.empty() || value.find("[never]") != std::string::npos) {
    return {"huge pages", Mark::kNote, value.empty() ? "unknown" : value,
            "off: page faults and table walks cost some speed; as root: echo "
            "madvise > /sys/kernel/mm/transparent_hugepage/enabled"};
  }
  return {"huge pages", Mark::kGood, value, ""};
}

Finding disk() {
  struct statvfs info {};
  if (::statvfs(".", &info) != 0) {
    return {"disk", Mark::kBad, "unknown", "the current folder cannot be read"};
  }
  const auto free = static_cast<std::int64_t>(info.f_bavail) *
                    static_cast<std::int64_t>(info.f_frsize);
  const std::string value = fmt::format("{} free here", human_bytes(free));
  if ((info.f_flag & ST_RDONLY) != 0) {
    return {"disk", Mark::kBad, value, "read-only: runs cannot be saved here"};
  }
  if (free < (std::int64_t{2} << 30)) {
    return {"disk", Mark::kNote, value,
            "little: a checkpoint takes 12 bytes a parameter"};
  }
  return {"disk", Mark::kGood, value, ""};
}

Finding cuda() {
  try {
    const auto backend = make_cuda_backend(0);
    return {"CUDA", Mark::kNote, backend->description(),
            "training on GPUs is not there yet: runs use the CPU"};
  } catch (const Error& error) {
    return {"CUDA", Mark::kNote, "none", error.what()};
  }
}

bool on_search_path(const std::string& program) {
  const char* variable = std::getenv("PATH");
  std::istringstream folders(variable == nullptr ? "" : variable);
  for (std::string folder; std::getline(folders, folder, ':');) {
    if (::access((folder + "/" + program).c_str(), X_OK) == 0) return true;
  }
  return false;
}

bool has_library(const char* name) {
  void* const library = ::dlopen(name, RTLD_LAZY | RTLD_LOCAL);
  if (library != nullptr) ::dlclose(library);
  return library != nullptr;
}

constexpr const char* kOneRank = "not used: runs have one rank so far";

Finding mpi() {
  const bool there = on_search_path("mpirun");
  return {"MPI", Mark::kNote, there ? "mpirun is there" : "no mpirun",
          kOneRank};
}

Finding nccl() {
  const bool there = has_library("libnccl.so.2");
  return {"NCCL", Mark::kNote, there ? "libnccl.so.2 is there" : "none",
          kOneRank};
}

/// "eth0 10000 Mbit/s, ...": interfaces that are up, but for loopback.
Finding network() {
  std::string value;
  std::error_code code;
  for (const auto& entry :
       std::filesystem::directory_iterator("/sys/class/net", code)) {
    const std::string name = entry.path().filename().string();
    std::string state;
    std::ifstream(entry.path() / "operstate") >> state;
    if (name == "lo" || state == "down") continue;
    int speed = 0;
    std::ifstream(entry.path() / "speed") >> speed;
    value += fmt::format("{}{}", value.empty() ? "" : ", ", name);
    if (speed > 0) value += fmt::format(" {} Mbit/s", speed);
  }
  return {"network", Mark::kNote, value.empty() ? "none" : value, kOneRank};
}

Finding speed(Backend& backend, DType dtype) {
  return {dtype == DType::kFloat32 ? "float32 speed" : "bfloat16 speed",
          Mark::kGood,
          fmt::format("{}FLOP/s in a 1024-cubed product",
                      human_number(probe_peak_flops(backend, dtype))),
          ""};
}

std::vector<Finding> examine() {
  const auto backend = make_cpu_backend(0);
  std::vector<Finding> all{compiler(), instruction_set(*backend),
                           cores(),    load(),
                           memory(),   huge_pages(),
                           disk(),     cuda()};
  all.push_back(mpi());
  all.push_back(nccl());
  all.push_back(network());
  all.push_back(speed(*backend, DType::kFloat32));
  all.push_back(speed(*backend, DType::kBFloat16));
  return all;
}

int doctor(bool json) {
  bool healthy = true;
  auto list = nlohmann::ordered_json::array();
  for (const Finding& f : examine()) {
    healthy &= f.mark != Mark::kBad;
    if (json) {
      list.push_back({{"name", f.name},
                      {"mark", text(f.mark)},
                      {"value", f.value},
                      {"meaning", f.meaning}});
      continue;
    }
    std::printf("%-5s %-20s %s\n", text(f.mark), f.name, f.value.c_str());
    if (!f.meaning.empty()) {
      std::printf("      %-20s %s\n", "", f.meaning.c_str());
    }
  }
  if (json) std::printf("%s\n", list.dump(1).c_str());
  return healthy ? kExitSuccess : 1;
}

}  // namespace

void add_doctor_command(CLI::App& app, Action& action) {
  auto json = std::make_shared<bool>(false);
  CLI::App* command = app.add_subcommand(
      "doctor", "What this machine has, and what it means for speed");
  command->add_flag("--json", *json, "A JSON array");
  command->footer(
      "Ends with 1 if something keeps runs from working.\n"
      "Example:\n  catena doctor");
  command->callback(
      [json, &action] { action = [json] { return doctor(*json); }; });
}

}  // namespace catena
