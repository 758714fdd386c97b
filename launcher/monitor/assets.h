#pragma once

#include <span>
#include <string_view>

namespace catena::launcher {

/// A file of the page, compiled in: launcher/monitor/dashboard/ and Chart.js.
struct Asset {
  std::string_view path;  ///< "/dashboard.js"; of index.html, "/"
  std::string_view type, content;
};

[[nodiscard]] std::span<const Asset> assets();

}  // namespace catena::launcher
