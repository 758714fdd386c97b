#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace catena {

/// Where the kernel shows the control groups, and which is this process's own.
/// A group's limits hold for those within it, too.
struct ControlGroups {
  std::filesystem::path root = "/sys/fs/cgroup";
  std::filesystem::path own = "/proc/self/cgroup";
};

/// Memory this process may use: the machine's, or less where a control group
/// says so.
[[nodiscard]] std::int64_t memory_limit_bytes(const ControlGroups& groups = {});
/// The part of it that nobody uses now.
[[nodiscard]] std::int64_t available_memory_bytes(
    const ControlGroups& groups = {});
/// Cores this process may run on, and which: "0-3,8".
[[nodiscard]] int available_cores();
[[nodiscard]] std::string core_list();
/// How many cores control groups let be busy at a time; 0: any number.
[[nodiscard]] double core_quota(const ControlGroups& groups = {});
/// "AMD EPYC", as the kernel names it; empty if it does not.
[[nodiscard]] std::string processor_name();
/// The name that this machine, or container on it, goes by.
[[nodiscard]] std::string host_name();
/// The same number for all processes that share it, until it boots anew.
[[nodiscard]] std::uint64_t host_id();
/// Whether the kernel lists this among what the processor can do: "avx2".
[[nodiscard]] bool has_processor_flag(std::string_view flag);

/// Resident memory of this process: now, at its highest, and the part now
/// that belongs to no file.
[[nodiscard]] std::int64_t resident_bytes();
[[nodiscard]] std::int64_t peak_resident_bytes();
[[nodiscard]] std::int64_t anonymous_bytes();

}  // namespace catena
