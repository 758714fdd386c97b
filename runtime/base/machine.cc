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
#include <vector>

#include "runtime/base/files.h"
#include "runtime/base/hash.h"

namespace catena {
namespace {

namespace fs = std::filesystem;

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

/// The path of this process's group among those with this controller; "" is
/// that of version 2, where all are together.
fs::path own_group(const fs::path& file, std::string_view controller) {
  std::ifstream lines(file);
  for (std::string line; std::getline(lines, line);) {
    // NUMBER:CONTROLLER,...:PATH
    const auto first = line.find(':');
    const auto second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string names =
        fmt::format(",{},", line.substr(first + 1, second - first - 1));
    if (names.find(fmt::format(",{},", controller)) != std::string::npos) {
      return line.substr(second + 1);
    }
  }
  return "/";
}

/// The folders of a group and of all that it lies in. In a container the root
/// may be the group itself and show none of this path: those are not there.
std::vector<fs::path> folders_of(const fs::path& root, fs::path group) {
  std::vector<fs::path> folders{root};
  for (; group.has_relative_path(); group = group.parent_path()) {
    folders.push_back(root / group.relative_path());
  }
  return folders;
}

std::vector<fs::path> folders_of(const ControlGroups& groups) {
  return folders_of(groups.root, own_group(groups.own, ""));
}

}  // namespace

std::int64_t memory_limit_bytes(const ControlGroups& groups) {
  std::int64_t limit = static_cast<std::int64_t>(::sysconf(_SC_PHYS_PAGES)) *
                       ::sysconf(_SC_PAGESIZE);
  const auto heed = [&limit](const fs::path& path) {
    std::ifstream file(path);
    std::int64_t bytes = 0;
    if (file >> bytes && bytes > 0) limit = std::min(limit, bytes);
  };
  for (const fs::path& folder : folders_of(groups)) heed(folder / "memory.max");
  for (const fs::path& folder :
       folders_of(groups.root / "memory", own_group(groups.own, "memory"))) {
    heed(folder / "memory.limit_in_bytes");
  }
  return limit;
}

std::int64_t available_memory_bytes(const ControlGroups& groups) {
  std::int64_t available =
      std::min(memory_limit_bytes(groups),
               kibibytes(field("/proc/meminfo", "MemAvailable")));
  for (const fs::path& folder : folders_of(groups)) {
    std::ifstream most(folder / "memory.max");
    std::ifstream now(folder / "memory.current");
    std::int64_t limit = 0, used = 0;
    if (!(most >> limit && now >> used)) continue;
    // Files that were read lie in memory until somebody wants it.
    std::int64_t files = 0, value = 0;
    std::ifstream counts(folder / "memory.stat");
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

double core_quota(const ControlGroups& groups) {
  double least = 0;
  for (const fs::path& folder : folders_of(groups)) {
    std::ifstream file(folder / "cpu.max");
    double quota = 0, period = 0;
    if (!(file >> quota >> period && period > 0)) continue;
    const double cores = quota / period;
    if (least == 0 || cores < least) least = cores;
  }
  return least;
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
