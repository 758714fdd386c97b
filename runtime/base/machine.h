#pragma once

#include <cstdint>
#include <string>

namespace catena {

/// Memory this process may use: the machine's, or less where its control
/// group says so.
[[nodiscard]] std::int64_t memory_limit_bytes();
/// Cores this process may run on.
[[nodiscard]] int available_cores();
/// "AMD EPYC", as the kernel names it; empty if it does not.
[[nodiscard]] std::string processor_name();

/// Resident memory of this process: now, at its highest, and the part now
/// that belongs to no file.
[[nodiscard]] std::int64_t resident_bytes();
[[nodiscard]] std::int64_t peak_resident_bytes();
[[nodiscard]] std::int64_t anonymous_bytes();

}  // namespace catena
