#pragma once

#include <array>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "parallel/gloo/last_word.h"
#include "parallel/gloo/line.h"
#include "parallel/gloo/transport.h"
#include "runtime/base/error.h"

namespace catena::gloo {

/// What there is of one other rank.
struct Peer {
  Peer(const Mesh& mesh, int rank) : rank(rank), farewell(mesh, rank) {}
  int rank;
  bool ended = false;
  Farewell farewell;
  std::array<std::unique_ptr<Outgoing>, Transport::kLanes> out;
  std::array<std::unique_ptr<Incoming>, Transport::kLanes> in;
};

/// `mutex_` is held by whichever of the rank's thread and `pump_` moves things
/// on; it protects everything below it. Only the rank's thread touches `open`s
/// and throws; what the pump finds is thrown by the next call.
class GlooTransport final : public Transport {
 public:
  GlooTransport(int rank, int size, Store& store, const Options& options)
      : description_(fmt::format("Gloo over TCP, {}", options.address)),
        deadline_(options.deadline),
        mesh_(rank, size, store, options) {
    for (int peer = 0; peer < size; ++peer) {
      peers_.push_back(mesh_.joins(peer) ? meet(peer) : nullptr);
    }
    mesh_.greet();
    pump_ = std::thread([this] { pump(); });
  }
  ~GlooTransport() override;

  [[nodiscard]] int rank() const override { return mesh_.rank(); }
  [[nodiscard]] int size() const override { return mesh_.size(); }
  [[nodiscard]] std::string_view description() const override {
    return description_;
  }

  void send(int to, int lane, const void* data, std::int64_t bytes,
            std::uint64_t tag, std::int64_t& open) override;
  void receive(int from, int lane, void* data, std::int64_t bytes,
               std::uint64_t tag, std::int64_t& open) override;
  void progress() override;
  void abandon(std::string_view why) noexcept override;

  [[nodiscard]] void* allocate(std::size_t bytes) override {
    return ::operator new(bytes, std::align_val_t(kAlignment));
  }
  void release(void* data, std::size_t) noexcept override {
    ::operator delete(data, std::align_val_t(kAlignment));
  }

 private:
  static constexpr std::size_t kAlignment = 64;
  template <class LineType>
  void post(int to, int lane,
            std::array<std::unique_ptr<LineType>, kLanes> Peer::*lines,
            const Message& message);

  // transport.cc
  [[nodiscard]] std::unique_ptr<Peer> meet(int peer);
  void throw_if_failed() const {
    if (failed_) fail(ErrorKind::kCommunication, "{}", failure_);
  }
  void pump();
  /// Everything that can be done now. Stores what is found wrong.
  void step();
  void advance(Peer& peer);
  void advance(Peer& peer, Incoming& line);
  void listen(Peer& peer);
  /// A line with messages that are not through, or none.
  [[nodiscard]] static const Line* waiting(Peer& peer);
  /// Whether there is something for the pump to do.
  [[nodiscard]] bool waits() const;
  void answer(Peer& peer);

  // ending.cc
  void lost(Peer& peer, const std::string& why);
  void check_ended(Peer& peer);
  /// `failure`: what the calls of this rank throw. The first counts.
  void fail_all(int origin, const std::string& why, std::string failure);
  void wait_for_answers();
  void say_ended(Peer& peer);
  void linger();

  /// Calls action(peer) for all others.
  template <class Action>
  void for_peers(Action action) {
    for (const auto& peer : peers_) {
      if (peer) action(*peer);
    }
  }
  /// Calls action(line) for the lines of a peer that are in use.
  template <class Action>
  static void for_lines(Peer& peer, Action action) {
    for (const auto& line : peer.out) {
      if (line) action(*line);
    }
    for (const auto& line : peer.in) {
      if (line) action(*line);
    }
  }

  const std::string description_;
  const std::chrono::duration<double> deadline_;
  const int exceptions_ = std::uncaught_exceptions();
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stop_ = false, failed_ = false;
  bool idle_ = false;     ///< the pump sleeps until there are messages
  bool stepped_ = false;  ///< by the rank's thread
  std::string failure_;
  Mesh mesh_;
  std::vector<std::unique_ptr<Peer>> peers_;  ///< null: not joined
  std::chrono::steady_clock::time_point looked_ =
      std::chrono::steady_clock::now();
  /// Of progress() in which nothing moved of what there is; the rank's thread.
  int turns_ = 0;
  std::thread pump_;
};

}  // namespace catena::gloo
