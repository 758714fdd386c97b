#pragma once

#include <array>
#include <cstddef>
#include <string>
#include <string_view>

namespace catena::launcher::control {

inline constexpr std::size_t kMacBytes = 32, kNonceBytes = 32;

/// A message authentication code: HMAC-SHA256.
using Mac = std::array<unsigned char, kMacBytes>;

/// Bytes that only the two ends of a connection know. It has no way to be
/// printed or logged by accident.
/// Thread rule: any number of readers.
class Secret {
 public:
  static constexpr std::size_t kLeastBytes = 32;
  /// Throws: InvalidArgument when there are fewer than kLeastBytes.
  explicit Secret(std::string bytes);

  /// HMAC-SHA256(secret, data).
  [[nodiscard]] Mac mac(std::string_view data) const;
  /// Whether `mac` is that of `data`; takes the same time wherever it is not.
  [[nodiscard]] bool proves(std::string_view mac, std::string_view data) const;
  /// A key for one purpose, which tells nothing of this secret nor of others.
  [[nodiscard]] Secret derived(std::string_view purpose) const;

 private:
  std::string bytes_;
};

/// kNonceBytes random bytes from the operating system. Throws: Io.
[[nodiscard]] std::string random_nonce();

[[nodiscard]] inline std::string_view text_of(const Mac& mac) {
  return {reinterpret_cast<const char*>(mac.data()), mac.size()};
}

}  // namespace catena::launcher::control
