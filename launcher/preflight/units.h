#pragma once

#include <cstdint>
#include <string>

namespace catena::launcher {

/// "12.3 MiB", "4.56 GFLOP/s", "1.5 ms", "9.41 Gbit/s".
[[nodiscard]] std::string bytes_text(std::int64_t bytes);
[[nodiscard]] std::string flops_text(double flops);
[[nodiscard]] std::string seconds_text(double seconds);
[[nodiscard]] std::string speed_text(double bytes_per_second);

}  // namespace catena::launcher
