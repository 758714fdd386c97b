#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <fstream>
#include <random>
#include <span>

#include "runtime/base/machine.h"
#include "training/commands/doctor/finding.h"
#include "training/metrics.h"

namespace catena::doctor {
namespace {

Finding memory() {
  return {"memory", Mark::kGood,
          fmt::format("{}, {} of them available now",
                      human_bytes(memory_limit_bytes()),
                      human_bytes(available_memory_bytes())),
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

/// A file without a name: it is gone however this process ends.
class Sample {
 public:
  Sample() = default;
  ~Sample() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  Sample(const Sample&) = delete;
  Sample& operator=(const Sample&) = delete;

  /// Makes the file. False: errno says why.
  [[nodiscard]] bool open() {
    char name[] = "./.catena-doctor-XXXXXX";
    descriptor_ = ::mkostemp(name, O_CLOEXEC);
    if (descriptor_ >= 0) ::unlink(name);
    return descriptor_ >= 0;
  }
  /// Appends and waits until it is on disk. False: errno says why.
  [[nodiscard]] bool add(const std::vector<std::uint64_t>& words) const {
    // A disk that becomes full takes a part; only the next write says why.
    for (auto rest = std::as_bytes(std::span(words)); !rest.empty();) {
      const ssize_t taken = ::write(descriptor_, rest.data(), rest.size());
      if (taken < 0 && errno == EINTR) continue;
      if (taken < 0) return false;
      rest = rest.subspan(static_cast<std::size_t>(taken));
    }
    return ::fdatasync(descriptor_) == 0;
  }

 private:
  int descriptor_ = -1;
};

Finding disk_speed() {
  using Clock = std::chrono::steady_clock;
  // Random: some disks store zeros in no time.
  std::vector<std::uint64_t> words((std::size_t{4} << 20) / 8);
  std::mt19937_64 random(1);
  for (std::uint64_t& word : words) word = random();
  const auto cannot = [](const char* what) -> Finding {
    return {"disk speed", Mark::kBad,
            fmt::format("cannot {}: {}", what, std::strerror(errno)),
            "runs cannot be saved here"};
  };
  Sample sample;
  if (!sample.open()) return cannot("make a file");
  constexpr int kMost = 16;
  constexpr double kEnough = 0.3;
  double seconds = 0;
  int pieces = 0;
  const auto begin = Clock::now();
  while (pieces < kMost && seconds < kEnough) {
    if (!sample.add(words)) return cannot("write");
    ++pieces;
    seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  }
  const double speed = 4.0 * (1 << 20) * pieces / seconds / 1e6;
  const std::string value =
      fmt::format("{:.0f} MB/s in a sample of {} MiB, synced every 4 MiB",
                  speed, 4 * pieces);
  if (speed < 50) {
    return {"disk speed", Mark::kNote, value,
            "slow: checkpoints are written behind training, but a run ends "
            "when its last one is"};
  }
  return {"disk speed", Mark::kGood, value, ""};
}

}  // namespace

Findings memory_findings() { return {memory(), huge_pages()}; }

Findings disk_findings() { return {disk(), disk_speed()}; }

}  // namespace catena::doctor
