#include "launcher/control/stream.h"

#include <boost/asio/error.hpp>
#include <boost/asio/ssl/error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <utility>

namespace catena::launcher::control {

namespace asio = boost::asio;
using asio::use_awaitable;

Stream::Stream(Socket socket, asio::ssl::context* tls)
    : stream_(std::move(socket)) {
  if (tls == nullptr) return;
  Socket plain = std::move(std::get<Socket>(stream_));
  stream_.emplace<Tls>(std::move(plain), *tls);
}

asio::awaitable<void> Stream::shake_hands(
    asio::ssl::stream_base::handshake_type side) {
  if (auto* tls = std::get_if<Tls>(&stream_)) {
    co_await tls->async_handshake(side, use_awaitable);
  }
}

asio::awaitable<std::size_t> Stream::read_some(asio::mutable_buffer into) {
  return std::visit(
      [into](auto& stream) {
        return stream.async_read_some(asio::buffer(into), use_awaitable);
      },
      stream_);
}

asio::awaitable<std::size_t> Stream::write(asio::const_buffer bytes) {
  return std::visit(
      [bytes](auto& stream) {
        return asio::async_write(stream, asio::buffer(bytes), use_awaitable);
      },
      stream_);
}

Stream::Socket::lowest_layer_type& Stream::socket() {
  return std::visit(
      [](auto& stream) -> Socket::lowest_layer_type& {
        return stream.lowest_layer();
      },
      stream_);
}

const Stream::Socket::lowest_layer_type& Stream::socket() const {
  return std::visit(
      [](const auto& stream) -> const Socket::lowest_layer_type& {
        return stream.lowest_layer();
      },
      stream_);
}

bool is_end(const boost::system::error_code& error) {
  return error == asio::error::eof ||
         error == asio::ssl::error::stream_truncated;
}

}  // namespace catena::launcher::control
