#include "parallel/tcp/socket.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <thread>

#include "runtime/base/error.h"

namespace catena::tcp {
namespace {

using Addresses = std::unique_ptr<addrinfo, decltype(&freeaddrinfo)>;

constexpr std::chrono::milliseconds kAgain(20);

Addresses resolve(const std::string& address, std::uint16_t port) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  addrinfo* result = nullptr;
  const int error = getaddrinfo(address.c_str(), std::to_string(port).c_str(),
                                &hints, &result);
  if (error != 0) {
    fail(ErrorKind::kConfig,
         "[tcp] \"{}\" is no numeric address, such as 127.0.0.1: {}", address,
         gai_strerror(error));
  }
  return {result, &freeaddrinfo};
}

Socket make_socket(int family) {
  Socket socket(
      ::socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!socket.open()) {
    fail(ErrorKind::kIo, "[tcp] no socket: {}", std::strerror(errno));
  }
  return socket;
}

/// Small messages go at once, and a machine that has vanished is noticed.
void tune(const Socket& socket) {
  const int on = 1, idle_seconds = 60;
  setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  setsockopt(socket.get(), SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
  setsockopt(socket.get(), IPPROTO_TCP, TCP_KEEPIDLE, &idle_seconds,
             sizeof idle_seconds);
}

/// Returns whether it happened before the deadline.
bool wait_for(const Socket& socket, short event, Time deadline) {
  for (;;) {
    pollfd wanted{socket.get(), event, 0};
    const int ready = poll(&wanted, 1, milliseconds_until(deadline));
    if (ready > 0) return true;
    if (ready == 0) return false;
    if (errno != EINTR) {
      fail(ErrorKind::kIo, "[tcp] poll: {}", std::strerror(errno));
    }
  }
}

/// 0, or the errno of why there is no connection.
int try_connect(const Socket& socket, const addrinfo& to, Time deadline) {
  if (connect(socket.get(), to.ai_addr, to.ai_addrlen) == 0) return 0;
  if (errno != EINPROGRESS) return errno;
  if (!wait_for(socket, POLLOUT, deadline)) return ETIMEDOUT;
  int error = 0;
  socklen_t length = sizeof error;
  getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &error, &length);
  return error;
}

sockaddr_storage name_of(const Socket& socket) {
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  if (getsockname(socket.get(), reinterpret_cast<sockaddr*>(&address),
                  &length) != 0) {
    fail(ErrorKind::kIo, "[tcp] no name: {}", std::strerror(errno));
  }
  return address;
}

}  // namespace

Socket::~Socket() {
  if (open()) close(descriptor_);
}

int milliseconds_until(Time time) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(
      time - std::chrono::steady_clock::now());
  return static_cast<int>(
      std::clamp<std::int64_t>(left.count(), 0, 1'000'000'000));
}

Socket listen_at(const std::string& address, std::uint16_t port) {
  const Addresses at = resolve(address, port);
  Socket socket = make_socket(at->ai_family);
  const int on = 1;
  setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(socket.get(), at->ai_addr, at->ai_addrlen) != 0) {
    fail(errno == EADDRNOTAVAIL ? ErrorKind::kConfig : ErrorKind::kIo,
         "[tcp] cannot listen at {} port {}: {}", address, port,
         std::strerror(errno));
  }
  if (listen(socket.get(), SOMAXCONN) != 0) {
    fail(ErrorKind::kIo, "[tcp] cannot listen: {}", std::strerror(errno));
  }
  return socket;
}

Socket adopt_listener(int descriptor) {
  int listens = 0;
  socklen_t length = sizeof listens;
  if (getsockopt(descriptor, SOL_SOCKET, SO_ACCEPTCONN, &listens, &length) !=
          0 ||
      listens == 0) {
    fail(ErrorKind::kConfig,
         "[tcp] descriptor {} is no socket that listens: the one that started "
         "this process has to hand it down",
         descriptor);
  }
  fcntl(descriptor, F_SETFD, FD_CLOEXEC);
  fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) | O_NONBLOCK);
  return Socket(descriptor);
}

std::uint16_t port_of(const Socket& socket) {
  const sockaddr_storage address = name_of(socket);
  return ntohs(address.ss_family == AF_INET6
                   ? reinterpret_cast<const sockaddr_in6&>(address).sin6_port
                   : reinterpret_cast<const sockaddr_in&>(address).sin_port);
}

std::string address_of(const Socket& socket) {
  const sockaddr_storage address = name_of(socket);
  std::array<char, NI_MAXHOST> text{};
  const int error =
      getnameinfo(reinterpret_cast<const sockaddr*>(&address), sizeof address,
                  text.data(), text.size(), nullptr, 0, NI_NUMERICHOST);
  if (error != 0) {
    fail(ErrorKind::kIo, "[tcp] no address: {}", gai_strerror(error));
  }
  return text.data();
}

Socket accept_from(const Socket& listener) {
  Socket socket(
      accept4(listener.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (socket.open()) tune(socket);
  return socket;
}

Socket connect_to(const std::string& address, std::uint16_t port,
                  Time deadline) {
  const Addresses to = resolve(address, port);
  for (;;) {
    Socket socket = make_socket(to->ai_family);
    const int error = try_connect(socket, *to, deadline);
    if (error == 0) {
      tune(socket);
      return socket;
    }
    if (std::chrono::steady_clock::now() + kAgain >= deadline) {
      fail(ErrorKind::kTimeout,
           "[tcp] no connection to {} port {}: {}; does rank 0 run?", address,
           port, std::strerror(error));
    }
    std::this_thread::sleep_for(kAgain);
  }
}

Moved send_now(const Socket& socket, std::string_view bytes) {
  for (;;) {
    const ssize_t sent =
        send(socket.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent >= 0) return {static_cast<std::size_t>(sent), false};
    if (errno == EAGAIN || errno == EWOULDBLOCK) return {};
    if (errno != EINTR) return {0, true};
  }
}

Moved receive_now(const Socket& socket, char* to, std::size_t most) {
  for (;;) {
    const ssize_t got = recv(socket.get(), to, most, 0);
    if (got > 0) return {static_cast<std::size_t>(got), false};
    if (got == 0) return {0, true};
    if (errno == EAGAIN || errno == EWOULDBLOCK) return {};
    if (errno != EINTR) return {0, true};
  }
}

void send_all(const Socket& socket, std::string_view bytes, Time deadline) {
  while (!bytes.empty()) {
    const Moved moved = send_now(socket, bytes);
    if (moved.over) {
      fail(ErrorKind::kCommunication, "[tcp] the connection has ended");
    }
    bytes.remove_prefix(moved.bytes);
    if (moved.bytes == 0 && !wait_for(socket, POLLOUT, deadline)) {
      fail(ErrorKind::kTimeout, "[tcp] the other side takes nothing");
    }
  }
}

std::string receive_some(const Socket& socket, std::size_t most,
                         Time deadline) {
  std::string bytes(most, '\0');
  for (;;) {
    const Moved moved = receive_now(socket, bytes.data(), most);
    if (moved.over || moved.bytes > 0) {
      bytes.resize(moved.bytes);
      return bytes;
    }
    if (!wait_for(socket, POLLIN, deadline)) {
      fail(ErrorKind::kTimeout, "[tcp] the other side says nothing");
    }
  }
}

}  // namespace catena::tcp
