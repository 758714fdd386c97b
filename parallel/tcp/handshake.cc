#include "parallel/tcp/handshake.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <sys/random.h>

#include <cerrno>
#include <cstring>

#include "runtime/base/error.h"

namespace catena::tcp {

std::string random_nonce() {
  std::string bytes(kNonceBytes, '\0');
  ssize_t got = 0;
  do {
    got = getrandom(bytes.data(), bytes.size(), 0);
  } while (got == -1 && errno == EINTR);
  if (got != static_cast<ssize_t>(bytes.size())) {
    fail(ErrorKind::kIo, "[store] no random numbers: {}", std::strerror(errno));
  }
  return bytes;
}

std::string random_token() {
  std::string digits;
  for (const char byte : random_nonce()) {
    digits += fmt::format("{:02x}", static_cast<unsigned char>(byte));
  }
  return digits;
}

Secret::Secret(std::string token) : token_(std::move(token)) {
  CATENA_CHECK(token_.size() >= kLeastBytes,
               "[store] a token of {} bytes; {} are the least", token_.size(),
               kLeastBytes);
}

std::string Secret::proof(Role role, std::string_view server_nonce,
                          std::string_view client_nonce) const {
  std::string said(1, static_cast<char>(role));
  said += server_nonce;
  said += client_nonce;
  std::string result(kProofBytes, '\0');
  unsigned int length = 0;
  const unsigned char* made =
      HMAC(EVP_sha256(), token_.data(), static_cast<int>(token_.size()),
           reinterpret_cast<const unsigned char*>(said.data()), said.size(),
           reinterpret_cast<unsigned char*>(result.data()), &length);
  if (made == nullptr || length != kProofBytes) {
    fail(ErrorKind::kInternal, "[store] OpenSSL makes no HMAC-SHA256");
  }
  return result;
}

bool Secret::proves(std::string_view proof, Role role,
                    std::string_view server_nonce,
                    std::string_view client_nonce) const {
  const std::string right = this->proof(role, server_nonce, client_nonce);
  return proof.size() == right.size() &&
         CRYPTO_memcmp(proof.data(), right.data(), right.size()) == 0;
}

}  // namespace catena::tcp
