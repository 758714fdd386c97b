#pragma once

#include <array>
#include <string>
#include <string_view>

namespace catena::tcp {

/// How client and server of a store show each other that they know the run's
/// token, without saying it:
///
///   server  magic, nonce s                   kGreetingBytes
///   client  nonce c, proof(client, s, c)     kAnswerBytes
///   server  proof(server, s, c)              kProofBytes
///
/// proof = HMAC-SHA256(token, who | s | c). All have fixed lengths. What comes
/// after is neither encrypted nor signed: it keeps strangers out, not those
/// who can change packets on the way.
inline constexpr std::string_view kMagic = "catena store 1\n";
inline constexpr std::size_t kNonceBytes = 16, kProofBytes = 32,
                             kGreetingBytes = kMagic.size() + kNonceBytes,
                             kAnswerBytes = kNonceBytes + kProofBytes;

enum class Role : char { kClient = 'c', kServer = 's' };

/// Random bytes from the operating system.
[[nodiscard]] std::string random_nonce();

/// 32 hexadecimal digits of 128 random bits: a token for a run.
[[nodiscard]] std::string random_token();

/// What both sides know. Thread rule: any number.
class Secret {
 public:
  static constexpr std::size_t kLeastBytes = 16;
  /// Throws: InvalidArgument when the token is shorter than kLeastBytes.
  explicit Secret(std::string token);

  [[nodiscard]] std::string proof(Role role, std::string_view server_nonce,
                                  std::string_view client_nonce) const;
  /// Takes the same time wherever the proof is wrong.
  [[nodiscard]] bool proves(std::string_view proof, Role role,
                            std::string_view server_nonce,
                            std::string_view client_nonce) const;

 private:
  std::string token_;
};

}  // namespace catena::tcp
