#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "launcher/preflight/probes.h"

namespace boost::asio {
class io_context;
}

namespace catena::launcher {

/// Where other agents of a preflight find this one, at a port that the system
/// chooses. Who does not begin with the ticket is turned away. What comes is
/// read and forgotten, in pieces of a fixed size; each parcel is answered by
/// one byte. It has eight places, and a minute for each; where none is free,
/// the first of those makes room who have not shown the ticket.
/// Thread rule: the thread that runs `context`, which outlives this.
class LinkServer {
 public:
  /// `address` is numeric. Throws: Error(kIo) where it cannot listen there.
  LinkServer(boost::asio::io_context& context, const std::string& address,
             std::string ticket);
  ~LinkServer();
  LinkServer(const LinkServer&) = delete;
  LinkServer& operator=(const LinkServer&) = delete;

  [[nodiscard]] std::uint16_t port() const;

 private:
  class Service;
  std::shared_ptr<Service> service_;
};

/// Sends to a LinkServer: twenty empty parcels, of which the fastest answer is
/// the latency, and then growing ones until one takes a twentieth of a second
/// or is 64 MiB; the last one's speed counts. Ten seconds at most.
/// Throws: Error(kCommunication) where it is not reached, or not in time.
[[nodiscard]] LinkFacts probe_link(const ProbeLink& probe);

}  // namespace catena::launcher
