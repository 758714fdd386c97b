#include "launcher/preflight/units.h"

#include <fmt/format.h>

#include <array>

namespace catena::launcher {
namespace {

template <std::size_t N>
std::string text(double value, double step,
                 const std::array<const char*, N>& units) {
  std::size_t unit = 0;
  // Else three digits could not say it without an exponent.
  constexpr double kMost = 999.5;
  while (unit + 1 < N && value >= kMost) {
    value /= step;
    ++unit;
  }
  return value < kMost ? fmt::format("{:.3g} {}", value, units[unit])
                       : fmt::format("{:.0f} {}", value, units[unit]);
}

}  // namespace

std::string bytes_text(std::int64_t bytes) {
  constexpr std::array<const char*, 5> kUnits = {"B", "KiB", "MiB", "GiB",
                                                 "TiB"};
  return text(static_cast<double>(bytes), 1024, kUnits);
}

std::string flops_text(double flops) {
  constexpr std::array<const char*, 4> kUnits = {"MFLOP/s", "GFLOP/s",
                                                 "TFLOP/s", "PFLOP/s"};
  return text(flops / 1e6, 1000, kUnits);
}

std::string seconds_text(double seconds) {
  constexpr std::array<const char*, 3> kUnits = {"us", "ms", "s"};
  return text(seconds * 1e6, 1000, kUnits);
}

std::string speed_text(double bytes_per_second) {
  constexpr double kBits = 8;
  constexpr std::array<const char*, 4> kUnits = {"kbit/s", "Mbit/s", "Gbit/s",
                                                 "Tbit/s"};
  return text(bytes_per_second * kBits / 1e3, 1000, kUnits);
}

}  // namespace catena::launcher
