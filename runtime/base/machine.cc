#include "runtime/base/machine.h"

#include <fmt/format.h>
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <fstream>
#include <string_view>

#include "runtime/base/files.h"
#include "runtime/base/hash.h"

namespace catena {
namespace {

// The value after "KEY:" in a file of such lines; empty if there is none.
std::string field(const char* file, std::string_view key) {
  std::ifstream lines(file);
  for (std::string line; std::getline(lines, line);) {
    const auto colon = line.find(':');
    if (colon == std::string::npos) continue;
    const std::string_view name = std::string_view(line).substr(
        0, std::min(line.find_last_not_of(" \t", colon - 1) + 1, colon));
    if (name != key) continue;
    const auto begin = line.find_first_not_of(" \t", colon + 1);
    return begin == std::string::npos ? "" : line.substr(begin);
  }
  return "";
}

/// Of a value such as "1024 kB".
std::int64_t kibibytes(const std::string& text) {
  std::int64_t count = 0;
  std::from_chars(text.data(), text.data() + text.size(), count);
  return count * 1024;
}

}  // namespace

std::int64_t memory_limit_bytes() {
  std::int64_t limit = static_cast<std::int64_t>(::sysconf(_SC_PHYS_PAGES)) *
                       ::sysconf(_SC_PAGESIZE);
  for (const char* path : {"/sys/fs/cgroup/memory.max",
                           "/sys/fs/cgroup/memory/memory.limit_in_bytes"}) {
    std::ifstream file(path);
    std::int64_t bytes = 0;
    if (file >> bytes && bytes > 0) limit = std::min(limit, bytes);
  }
  return limit;
}

std::int64_t available_memory_bytes() {
  std::int64_t available = std::min(
      memory_limit_bytes(), kibibytes(field("/proc/meminfo", "MemAvailable")));
  std::ifstream most("/sys/fs/cgroup/memory.max");
  std::ifstream now("/sys/fs/cgroup/memory.current");
  std::int64_t limit = 0, used = 0;
  if (most >> limit && now >> used) {
    // Files that were read lie in memory until somebody wants it.
    std::int64_t files = 0, value = 0;
    std::ifstream counts("/sys/fs/cgroup/memory.stat");
    for (std::string key; counts >> key >> value;) {
      if (key == "inactive_file") files = value;
    }
    available =
        std::min(available, std::max<std::int64_t>(0, limit - used + files));
  }
  return available;
}

int available_cores() {
  cpu_set_t set;
  if (::sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
  return std::max(1, static_cast<int>(::sysconf(_SC_NPROCESSORS_ONLN)));
}

std::string core_list() {
  return field("/proc/self/status", "Cpus_allowed_list");
}

double core_quota() {
  std::ifstream file("/sys/fs/cgroup/cpu.max");
  double quota = 0, period = 0;
  return file >> quota >> period && period > 0 ? quota / period : 0;
}

std::string processor_name() { return field("/proc/cpuinfo", "model name"); }

bool has_processor_flag(std::string_view flag) {
  static const std::string kFlags = [] {
    const char* const file = "/proc/cpuinfo";
    const std::string x86 = field(file, "flags");
    return " " + (x86.empty() ? field(file, "Features") : x86) + " ";
  }();
  return kFlags.find(fmt::format(" {} ", flag)) != std::string::npos;
}

std::int64_t resident_bytes() {
  std::ifstream file("/proc/self/statm");
  std::int64_t total = 0, resident = 0;
  file >> total >> resident;
  return resident * ::sysconf(_SC_PAGESIZE);
}

std::int64_t peak_resident_bytes() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::int64_t>(usage.ru_maxrss) * 1024;
}

std::int64_t anonymous_bytes() {
  return kibibytes(field("/proc/self/status", "RssAnon"));
}

std::string host_name() {
  std::array<char, 256> name{};
  gethostname(name.data(), name.size() - 1);
  return name.data();
}

std::uint64_t host_id() {
  const std::string boot = read_file("/proc/sys/kernel/random/boot_id");
  return hash64(host_name() + boot);
}

}  // namespace catena
