#include "launcher/control/secret.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <sys/random.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "runtime/base/error.h"

namespace catena::launcher::control {

Secret::Secret(std::string bytes) : bytes_(std::move(bytes)) {
  CATENA_CHECK(bytes_.size() >= kLeastBytes,
               "[control] a secret of {} bytes; {} are the least",
               bytes_.size(), kLeastBytes);
}

Mac Secret::mac(std::string_view data) const {
  Mac result{};
  unsigned int length = 0;
  const unsigned char* made =
      HMAC(EVP_sha256(), bytes_.data(), static_cast<int>(bytes_.size()),
           reinterpret_cast<const unsigned char*>(data.data()), data.size(),
           result.data(), &length);
  if (made == nullptr || length != result.size()) {
    fail(ErrorKind::kInternal, "[control] OpenSSL makes no HMAC-SHA256");
  }
  return result;
}

bool Secret::proves(std::string_view given, std::string_view data) const {
  const Mac right = mac(data);
  return given.size() == right.size() &&
         CRYPTO_memcmp(given.data(), right.data(), right.size()) == 0;
}

Secret Secret::derived(std::string_view purpose) const {
  return Secret(std::string(text_of(mac(purpose))));
}

std::string random_nonce() {
  std::string bytes(kNonceBytes, '\0');
  ssize_t got = 0;
  do {
    got = ::getrandom(bytes.data(), bytes.size(), 0);
  } while (got < 0 && errno == EINTR);
  if (got != static_cast<ssize_t>(bytes.size())) {
    fail(ErrorKind::kIo, "[control] no random bytes: {}", std::strerror(errno));
  }
  return bytes;
}

}  // namespace catena::launcher::control
