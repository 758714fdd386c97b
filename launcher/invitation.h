#pragma once

#include <cstdint>
#include <string>

#include "launcher/messages.h"

namespace catena::launcher {

/// All that an agent must know to find its launcher and to prove who it is. It
/// comes over standard input, which nobody else reads: neither arguments nor
/// environment, which others can see. All else comes over the connection.
struct Invitation {
  std::string address;  ///< numeric, of the launcher
  std::uint16_t port = 0;
  std::string job, secret;
  bool tls = false;  ///< whether the launcher speaks by TLS, and nothing else
  int agent = 0;
  int incarnation = 0;  ///< see Report
  std::string host;     ///< as the launcher calls it, for people
  Duration lease{};
};

/// One line of JSON, without its newline.
[[nodiscard]] std::string write_invitation(const Invitation& invitation);
/// Throws: Error(kUsage) where it is none.
[[nodiscard]] Invitation read_invitation(const std::string& line);

}  // namespace catena::launcher
