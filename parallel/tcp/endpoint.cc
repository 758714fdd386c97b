#include "parallel/tcp/endpoint.h"

#include <netdb.h>
#include <sys/socket.h>

#include <array>
#include <charconv>
#include <memory>

#include "runtime/base/error.h"

namespace catena::tcp {

Endpoint parse_endpoint(std::string_view text) {
  const auto colon = text.rfind(':');
  std::string_view host = text.substr(0, colon);
  const bool bracketed = host.starts_with('[') && host.ends_with(']');
  if (bracketed) host = host.substr(1, host.size() - 2);
  const std::string_view digits =
      colon == std::string_view::npos ? "" : text.substr(colon + 1);
  std::uint16_t port = 0;
  const auto read =
      std::from_chars(digits.data(), digits.data() + digits.size(), port);
  if (host.empty() || read.ec != std::errc() ||
      read.ptr != digits.data() + digits.size() || port == 0 ||
      (!bracketed && host.find(':') != std::string_view::npos)) {
    fail(ErrorKind::kConfig,
         "\"{}\" is no host:port, such as 10.0.0.1:29500 or [::1]:29500, with "
         "a port from 1 to 65535",
         text);
  }
  return {std::string(host), port};
}

std::string numeric_address(const std::string& host) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* result = nullptr;
  const int error = getaddrinfo(host.c_str(), nullptr, &hints, &result);
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> found(result,
                                                                 &freeaddrinfo);
  std::array<char, NI_MAXHOST> text{};
  if (error != 0 || getnameinfo(found->ai_addr, found->ai_addrlen, text.data(),
                                text.size(), nullptr, 0, NI_NUMERICHOST) != 0) {
    fail(ErrorKind::kConfig, "this machine knows no address of \"{}\": {}",
         host, error != 0 ? gai_strerror(error) : "none has a numeric form");
  }
  return text.data();
}

}  // namespace catena::tcp
