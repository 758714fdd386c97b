#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace catena::tcp {

using Time = std::chrono::steady_clock::time_point;

/// Owns a descriptor.
class Socket {
 public:
  Socket() = default;
  explicit Socket(int descriptor) : descriptor_(descriptor) {}
  Socket(Socket&& other) noexcept
      : descriptor_(std::exchange(other.descriptor_, -1)) {}
  Socket& operator=(Socket&& other) noexcept {
    std::swap(descriptor_, other.descriptor_);
    return *this;
  }
  ~Socket();
  [[nodiscard]] int get() const { return descriptor_; }
  [[nodiscard]] bool open() const { return descriptor_ >= 0; }

 private:
  int descriptor_ = -1;
};

/// Listens at a numeric address, "127.0.0.1" or "::1"; port 0 lets the system
/// choose. Sockets are non-blocking and closed by exec.
/// Throws: Config when it is no address of this machine; Io.
[[nodiscard]] Socket listen_at(const std::string& address, std::uint16_t port);
/// A listening socket that this process inherited, which is now its owner.
/// Throws: Config when it is none.
[[nodiscard]] Socket adopt_listener(int descriptor);
[[nodiscard]] std::uint16_t port_of(const Socket& socket);
/// The numeric address of this side.
[[nodiscard]] std::string address_of(const Socket& socket);

/// The next connection, or a closed socket if there is none.
[[nodiscard]] Socket accept_from(const Socket& listener);

/// Connects to a numeric address. While nobody listens there, tries again
/// until the deadline.
/// Throws: Config when it is no address; Timeout, saying why.
[[nodiscard]] Socket connect_to(const std::string& address, std::uint16_t port,
                                Time deadline);

/// Sends all, or receives some (at least 1 byte, at most `most`; none when the
/// other side has closed), waiting until the deadline.
/// Throws: Timeout, Communication.
void send_all(const Socket& socket, std::string_view bytes, Time deadline);
[[nodiscard]] std::string receive_some(const Socket& socket, std::size_t most,
                                       Time deadline);

/// What a send or receive without waiting did: bytes, none for now, or over.
struct Moved {
  std::size_t bytes = 0;
  bool over = false;
};
[[nodiscard]] Moved send_now(const Socket& socket, std::string_view bytes);
[[nodiscard]] Moved receive_now(const Socket& socket, char* to,
                                std::size_t most);

/// For poll(): milliseconds until then, rounded up; 0 when it has passed.
[[nodiscard]] int milliseconds_until(Time time);

}  // namespace catena::tcp
