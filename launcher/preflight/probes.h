#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <variant>
#include <vector>

namespace catena::launcher {

/// What a launcher asks its agents before the first generation, and what they
/// answer. An answer has the question's number.

/// What time is it?
struct ProbeClock {};
/// What has the machine, and does it see the job's files?
struct ProbeMachine {
  std::string program = {};             ///< of the ranks
  std::string run = {};                 ///< the run's folder
  std::vector<std::string> files = {};  ///< or folders, that all ranks read
};
/// How many of its files, the first ones, are compared: what one message
/// between launcher and agent holds.
[[nodiscard]] inline std::size_t files_compared(const ProbeMachine& probe) {
  constexpr std::size_t kMostFiles = 4096, kMostBytes = std::size_t{1} << 19U;
  std::size_t count = 0, bytes = 0;
  while (count < probe.files.size() && count < kMostFiles) {
    bytes += probe.files[count].size() + sizeof(std::uint64_t);
    if (bytes > kMostBytes) break;
    ++count;
  }
  return count;
}
/// How fast do all your cores compute?
struct ProbeCompute {};
/// Where do other agents find you? Those that show the ticket are to be served.
struct ProbeListen {
  std::string ticket = {};
};
/// How good is the way to another one, who listens?
struct ProbeLink {
  std::string address = {};  ///< numeric
  std::uint16_t port = 0;
  std::string ticket = {};
};
struct Probe {
  std::uint32_t number = 0;
  std::variant<ProbeClock, ProbeMachine, ProbeCompute, ProbeListen, ProbeLink>
      body;
};

/// It cannot be answered.
struct ProbeFailed {
  std::string why;
};
/// The wall clock, since 1970.
struct ClockFacts {
  std::int64_t microseconds = 0;
};
/// What is written to the disk, to see how fast it is.
inline constexpr std::size_t kWrittenBytes = std::size_t{1} << 20U;
/// Hashes of files are 0 where they cannot be read.
struct MachineFacts {
  int cores = 0;
  std::int64_t memory_bytes = 0;  ///< that there may be used
  std::int64_t free_memory_bytes = 0;
  std::int64_t free_disk_bytes = 0;  ///< where the run's folder is
  double write_seconds = 0;          ///< of kWrittenBytes, to the disk
  std::string disk_error = {};       ///< why nothing can be written there
  std::uint64_t program_hash = 0;
  std::vector<std::uint64_t> file_hashes = {};  ///< of the files compared

  friend bool operator==(const MachineFacts&, const MachineFacts&) = default;
};
struct ComputeFacts {
  double flops = 0;  ///< a second, of all cores
};
struct ListenFacts {
  std::string address = {};  ///< numeric
  std::uint16_t port = 0;
};
struct LinkFacts {
  double latency_seconds = 0;  ///< there and back
  double bytes_per_second = 0;
};
struct Probed {
  std::uint32_t number = 0;
  std::variant<ProbeFailed, ClockFacts, MachineFacts, ComputeFacts, ListenFacts,
               LinkFacts>
      body;
};

}  // namespace catena::launcher
