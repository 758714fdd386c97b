#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "launcher/control/envelope.h"
#include "launcher/control/secret.h"

namespace boost::asio {
class io_context;
}

namespace catena::launcher::control {

/// Where agents find their launcher. Strangers are turned away before they
/// take anything that an agent needs: until both ends have proved themselves
/// (handshake.h) a connection has two seconds, TLS's handshake included, 512
/// bytes a frame, and a place among 64, of which eight are of its address;
/// where there is none left, the oldest makes room. Whatever comes over it, the
/// job does not see it. Thread rule: the thread that runs `context`, which
/// outlives this.
class Server {
 public:
  struct Options {
    std::string address = "127.0.0.1";  ///< numeric; that alone is listened at
    bool tls = false;                   ///< for all connections (tls.h)
    std::string job;
    Duration lease = std::chrono::seconds(10);
  };
  struct Hooks {
    /// It has its place, and knows that.
    std::function<void(int agent)> connected;
    std::function<void(const Report&)>
        reported;  ///< `agent`, `incarnation`: as proved
    std::function<void(int agent, const Probed&)> probed = {};
    /// The connection of one that was connected is gone, without expect()
    /// having ended it.
    std::function<void(int agent, const std::string& why)> lost;
  };
  static constexpr std::size_t kMostPending = 64, kMostOfOneAddress = 8;

  /// Throws: Error(kIo) where it cannot listen there; as tls_context().
  Server(boost::asio::io_context& context, Secret secret, Options options,
         Hooks hooks);
  /// As close().
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  [[nodiscard]] std::uint16_t port() const;
  /// From now on this process may connect as this agent, once. What another
  /// one had before is closed.
  void expect(int agent, int incarnation);
  /// To an agent that is connected; else it is dropped.
  void send(int agent, const Message& message);
  /// Closes all connections and listens no more; no hook is called any more.
  void close();
  /// Connections that were turned away, by reason, of which all are there from
  /// the beginning: those of Refusal, those of end_reason(), and "deadline",
  /// "crowded", "protocol".
  [[nodiscard]] const std::map<std::string, std::int64_t>& rejected() const;

 private:
  class Service;
  std::shared_ptr<Service> service_;
};

}  // namespace catena::launcher::control
