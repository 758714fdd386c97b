#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <deque>
#include <functional>
#include <memory>
#include <string>

#include "launcher/control/envelope.h"
#include "launcher/control/frame.h"
#include "launcher/control/handshake.h"
#include "launcher/control/stream.h"

namespace catena::launcher::control {

/// One end of a connection whose ends have proved themselves. Each says
/// something at least every tenth of a lease, and takes the connection for lost
/// when it has heard nothing for a whole one; so, too, when a frame comes that
/// the other end did not make, or when the other end does not read.
/// Kept alive by its own coroutines until it is closed.
/// Thread rule: the thread that runs the socket's context, which outlives this.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  struct Hooks {
    std::function<void(Message)> heard;  ///< any but a Heartbeat
    /// Once, unless close() was called: why it was lost. Never from within
    /// send().
    std::function<void(const std::string& why)> lost;
    /// Once, before all that is heard: the other end has begun, too.
    std::function<void()> began = {};
  };
  /// `reader` may hold what came after the handshake.
  Connection(Stream stream, FrameReader reader, Secret send_key,
             Secret receive_key);

  /// Once. Hooks are called from now on; `first` is sent as it is, before all
  /// else: the last frame of the handshake.
  void start(Hooks hooks, Duration lease, std::string first = {});
  void send(const Message& message);
  /// Nothing more is sent or heard; no hook is called any more.
  void close();
  [[nodiscard]] std::string local_address() const;
  [[nodiscard]] std::string remote_address() const;

 private:
  boost::asio::awaitable<void> read_all();
  boost::asio::awaitable<void> write_all();
  void push(std::string bytes);
  void beat();
  void watch();
  void lose(const std::string& why);

  Stream stream_;
  FrameReader reader_;
  Sealer sealer_;
  Opener opener_;
  Hooks hooks_;
  Duration lease_{};
  Time heard_{};
  boost::asio::steady_timer beat_, watch_;
  std::deque<std::string> queue_;
  std::size_t queued_bytes_ = 0;
  bool writing_ = false, closed_ = false;
};

/// The content of the next frame.
/// Throws: Error(Data) as FrameReader; boost::system::system_error.
[[nodiscard]] boost::asio::awaitable<std::string> next_content(
    Stream& stream, FrameReader& reader);

/// The agent's part: connects, by TLS or without, and shows the launcher who it
/// is.
/// Throws: Error(kUsage) where either refuses the other, saying why;
/// boost::system::system_error where it cannot be reached.
[[nodiscard]] boost::asio::awaitable<std::shared_ptr<Connection>> connect(
    boost::asio::ip::tcp::endpoint launcher, Secret secret, Identity identity,
    bool tls);

/// Before both ends have proved themselves, all of it.
inline constexpr std::chrono::seconds kHandshakeTime(2);

}  // namespace catena::launcher::control
