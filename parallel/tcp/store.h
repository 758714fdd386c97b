#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include "parallel/store.h"
#include "parallel/tcp/frame.h"
#include "parallel/tcp/handshake.h"
#include "parallel/tcp/socket.h"

namespace catena::tcp {

/// Serves a store to all who know the token, from a thread of its own, until
/// it is destroyed. Whoever connects proves that within two seconds, and only
/// a few at a time may still be about to; the others are turned away. A client
/// that says what is no frame, or more than a store takes, is refused. None of
/// that touches other clients.
class StoreServer {
 public:
  struct Limits {
    std::chrono::milliseconds handshake{2000};
    std::size_t strangers = 64;     ///< connections that have proved nothing
    std::size_t clients = 16384;    ///< those that have
    std::size_t bytes = 256 << 20;  ///< keys and values together
  };

  /// `address`: a numeric one of this machine; "127.0.0.1" is seen from this
  /// machine alone. Port 0 lets the system choose.
  /// Throws: InvalidArgument (token), Config, Io.
  StoreServer(const std::string& address, std::uint16_t port, Secret secret,
              Limits limits);
  StoreServer(const std::string& address, std::uint16_t port, Secret secret)
      : StoreServer(address, port, std::move(secret), Limits{}) {}
  /// At a socket that listens already.
  StoreServer(Socket listener, Secret secret);
  ~StoreServer();

  [[nodiscard]] std::uint16_t port() const;
  /// Connections that were turned away, so far.
  [[nodiscard]] std::int64_t turned_away() const;

 private:
  class Service;
  std::unique_ptr<Service> service_;
};

/// A client of a StoreServer.
/// Thread rule: any number, one request at a time.
class StoreClient final : public Store {
 public:
  using Duration = std::chrono::duration<double>;

  /// Waits for the server for at most `patience`, now and in every set().
  /// Throws: Config, Timeout, Communication (not a store).
  /// Config also where the store has another token.
  StoreClient(std::string address, std::uint16_t port, Secret secret,
              Duration patience);

  /// See base. A lost connection is made anew by the next call.
  /// Throws also: InvalidArgument when key or value are too long.
  void set(std::string_view key, std::string_view value) override;
  [[nodiscard]] std::string get(std::string_view key,
                                Duration deadline) override;

  /// The numeric address of this machine that the connection uses.
  [[nodiscard]] std::string own_address();

 private:
  void connect(Time deadline);
  [[nodiscard]] Frame ask(const Frame& question, Time deadline);
  [[nodiscard]] std::string receive_exactly(std::size_t count, Time deadline);

  const std::string address_;
  const std::uint16_t port_;
  const Secret secret_;
  const Duration patience_;
  std::mutex mutex_;
  Socket socket_;
  FrameReader reader_;
};

}  // namespace catena::tcp
