#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "parallel/tcp/endpoint.h"
#include "parallel/tcp/store.h"

namespace catena::tcp {

/// Ranks that were started one by one, and know but this, find each other at a
/// store of rank 0. Each enters itself; rank 0 counts them, and tells every one
/// how it went: either all go on, or all know who is missing.
class Meeting {
 public:
  struct Options {
    int rank = 0, size = 1;
    /// Where rank 0 serves the store.
    Endpoint at = {};
    /// The same for all, and known to nobody else: 16 bytes or more.
    std::string token = {};
    /// For all to come.
    std::chrono::duration<double> deadline{300};
  };

  /// Returns when all have come. The store is served as long as rank 0's
  /// Meeting lives: who comes too late, or twice, is told so.
  /// Throws: Timeout, naming the ranks that are missing, or when rank 0 does
  /// not listen; Config (another token; an address that is not of rank 0's
  /// machine; a rank that is there twice; ranks that were told of different
  /// sizes); Communication, Io.
  explicit Meeting(const Options& options);
  /// The same where rank 0 has its server already; null for the others.
  Meeting(const Options& options, std::unique_ptr<StoreServer> server);

  [[nodiscard]] Store& store() { return client_; }
  /// A numeric address of this machine, from which it reaches rank 0.
  [[nodiscard]] std::string own_address() { return client_.own_address(); }
  /// How many of the ranks, this one included, are on this machine.
  [[nodiscard]] int ranks_here() const { return ranks_here_; }
  /// Letters and digits that no other meeting has; no secret.
  [[nodiscard]] const std::string& name() const { return name_; }

 private:
  void enter();
  /// Rank 0: waits for all, and says how many ranks share the machine of each,
  /// or that not all have come.
  void count_all();
  void hear();

  const Options options_;
  std::unique_ptr<StoreServer> server_;
  StoreClient client_;
  const Time until_;
  int ranks_here_ = 1;
  std::string name_;
};

}  // namespace catena::tcp
