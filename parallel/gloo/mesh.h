#pragma once

#include <gloo/transport/context.h>
#include <gloo/transport/device.h>
#include <gloo/transport/unbound_buffer.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "parallel/gloo/transport.h"

namespace catena::gloo {

using Buffer = ::gloo::transport::UnboundBuffer;

/// For what has happened already, or is about to.
inline constexpr std::chrono::milliseconds kSoon(10'000);

/// Messages meet in slots: a receive takes what was sent to the same one by
/// the rank it names. What a slot is for, and which of those.
enum class Use : std::uint64_t {
  kHello = 1,
  kBlock,     ///< the head of a message, see line.h
  kData,      ///< the rest of a long one
  kAnswer,    ///< how many messages have come
  kLastWord,  ///< a rank has ended or gave up
  kNever,     ///< nothing is sent there: its receive ends with the connection
};
[[nodiscard]] constexpr std::uint64_t slot(Use use, int lane,
                                           std::uint64_t number,
                                           std::uint64_t check = 0) {
  // use 4 bits, lane 4, number 16, check 40.
  return static_cast<std::uint64_t>(use) << 60 |
         static_cast<std::uint64_t>(lane) << 56 | (number & 0xffff) << 40 |
         (check & 0xff'ffff'ffff);
}

/// Which of the two connections with a peer. Each carries messages one way, and
/// the other way only that they may come and have come: this must not wait
/// behind a long message, or two that are sent to each other go one by one.
enum class Way { kOut, kIn };
inline constexpr std::array kWays = {Way::kOut, Way::kIn};

/// Two connections with every other rank that it joins.
class Mesh {
 public:
  /// See connect() in transport.h for arguments and errors.
  Mesh(int rank, int size, Store& store, const Options& options);
  /// Hears of each of the others who it is, and says so. To be called once,
  /// when all is ready for what they say next: it may be their last word.
  /// Throws: Communication.
  void greet();
  ~Mesh();
  Mesh(const Mesh&) = delete;
  Mesh& operator=(const Mesh&) = delete;

  [[nodiscard]] int rank() const { return rank_; }
  [[nodiscard]] int size() const { return size_; }
  [[nodiscard]] bool joins(int peer) const {
    return joins_[static_cast<std::size_t>(peer)] != 0;
  }

  /// For one message at a time from, or to, borrowed memory. Once destroyed,
  /// Gloo no longer touches that memory. Any call throws what Gloo throws when
  /// the connection is lost; waits beyond their time close all that go as it.
  [[nodiscard]] std::unique_ptr<Buffer> buffer(Way way, int peer, void* data,
                                               std::size_t bytes) const;

 private:
  /// From lower ranks to higher ones, and from higher to lower.
  using Contexts = std::array<std::shared_ptr<::gloo::transport::Context>, 2>;

  void meet(int peer, Store& store, const Options& options);
  [[nodiscard]] ::gloo::transport::Context& context(Way way, int peer) const {
    return *contexts_[(way == Way::kOut) == (rank_ < peer) ? 0 : 1];
  }

  int rank_, size_;
  std::vector<char> joins_;
  std::shared_ptr<::gloo::transport::Device> device_;
  Contexts contexts_;
  /// What each peer has to say so that this rank knows it, and what to say to
  /// it: the store is where only ranks of this run read.
  std::vector<std::string> expected_, told_;
};

}  // namespace catena::gloo
