#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/system/error_code.hpp>
#include <cstddef>
#include <variant>

namespace catena::launcher::control {

/// A TCP connection that carries bytes as they are, or by TLS (tls.h). When the
/// TCP connection ends, so does this: no farewell of TLS is sent or wanted, as
/// frames are counted (frame.h). Until it is closed a TLS stream has some 100
/// KiB of buffers; a stranger who claims a long greeting makes OpenSSL take
/// another 175 (its limit for a ClientHello).
/// Thread rule: the thread that runs the socket's context; one read and one
/// write at a time.
class Stream {
 public:
  using Socket = boost::asio::ip::tcp::socket;
  /// `tls`: null for none.
  Stream(Socket socket, boost::asio::ssl::context* tls);
  Stream(Stream&&) = default;
  Stream& operator=(Stream&&) = delete;

  /// TLS's handshake, or nothing. Once, before all else but socket().
  /// Throws: boost::system::system_error, as do all others: see end_reason().
  [[nodiscard]] boost::asio::awaitable<void> shake_hands(
      boost::asio::ssl::stream_base::handshake_type side);
  /// How many bytes came, one at least.
  [[nodiscard]] boost::asio::awaitable<std::size_t> read_some(
      boost::asio::mutable_buffer into);
  /// All of it. `bytes` stay where they are until then.
  [[nodiscard]] boost::asio::awaitable<std::size_t> write(
      boost::asio::const_buffer bytes);

  /// To connect, to close, to ask for addresses.
  [[nodiscard]] Socket::lowest_layer_type& socket();
  [[nodiscard]] const Socket::lowest_layer_type& socket() const;

 private:
  using Tls = boost::asio::ssl::stream<Socket>;
  std::variant<Socket, Tls> stream_;
};

/// Whether the other end closed the connection, and did not reset it.
[[nodiscard]] bool is_end(const boost::system::error_code& error);

}  // namespace catena::launcher::control
