#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace catena::tcp {

/// Where something listens.
struct Endpoint {
  std::string host = {};  ///< a name, or a numeric address
  std::uint16_t port = 0;
};

/// Reads "host:port", "10.0.0.1:29500" or "[::1]:29500".
/// Throws: Config, saying what is wrong with it.
[[nodiscard]] Endpoint parse_endpoint(std::string_view text);

/// The numeric address that the system gives for a name; a numeric one is its
/// own.
/// Throws: Config when there is none.
[[nodiscard]] std::string numeric_address(const std::string& host);

}  // namespace catena::tcp
