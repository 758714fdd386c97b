#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "parallel/traffic.h"
#include "runtime/memory_source.h"

namespace catena {

/// A wire between ranks, as one rank sees it: messages from one rank to
/// another. Those of one lane between two ranks are matched in the order in
/// which each side posted them.
/// No call waits. Data are borrowed from posting until the message is through.
/// Thread rule: one thread.
/// Throws from every call, once it is known: Communication, naming the rank
/// that is gone, that gave up and why, or that is in another collective.
class Transport : public MemorySource {
 public:
  Transport() = default;
  Transport(const Transport&) = delete;
  Transport& operator=(const Transport&) = delete;

  [[nodiscard]] virtual int rank() const = 0;
  [[nodiscard]] virtual int size() const = 0;
  /// "threads of one process", "shared memory", ...
  [[nodiscard]] virtual std::string_view description() const = 0;

  /// False where messages have no content: there is nothing to sum.
  [[nodiscard]] virtual bool carries() const { return true; }

  /// The same number on ranks that share a node, and on no others: by default
  /// that of the host.
  [[nodiscard]] virtual std::uint64_t node() const;

  static constexpr int kLanes = 8;
  /// Takes the next `count` lanes: every rank does so in the same order.
  /// Throws: Unsupported when there are no more.
  [[nodiscard]] int take_lanes(int count);
  /// They may be taken anew, by every rank, if they are the last that were
  /// taken; else they stay so. Their messages are through, or on their way.
  void give_lanes_back(int first, int count);

  /// How ranks lie on nodes, for those that count what crosses them: r is on
  /// node r / ranks_per_node. 0, and until it is said: all are on one.
  void set_ranks_per_node(int ranks_per_node) {
    ranks_per_node_ = ranks_per_node;
  }
  [[nodiscard]] bool shares_node_with(int other) const {
    return ranks_per_node_ == 0 ||
           rank() / ranks_per_node_ == other / ranks_per_node_;
  }

  /// Posts a message of `bytes` >= 0 to, or from, another rank. Both sides say
  /// the same `lane`, `bytes` and `tag` (parallel/tag.h). Adds 1 to `open`, and
  /// takes it back when the message is through: then data may be used again, or
  /// is there. `open` must live until then.
  virtual void send(int to, int lane, const void* data, std::int64_t bytes,
                    std::uint64_t tag, std::int64_t& open) = 0;
  virtual void receive(int from, int lane, void* data, std::int64_t bytes,
                       std::uint64_t tag, std::int64_t& open) = 0;

  /// Moves on what can move; after posting, too, so that those that wait need
  /// nothing more of this rank.
  virtual void progress() = 0;

  /// Has more to post when messages are through: a communicator.
  class Client {
   public:
    virtual ~Client() = default;
    /// Whether any of its messages is under way.
    [[nodiscard]] virtual bool busy() const = 0;
    /// Takes on what progress() has moved.
    virtual void advance() = 0;
  };
  /// From now on, and until it is removed, advance() takes care of it.
  void add(Client& client) { clients_.push_back(&client); }
  void remove(Client& client) noexcept { std::erase(clients_, &client); }
  /// Moves on all that this rank has under way, for whomever: what a rank does
  /// while it waits for one exchange, or while its kernels run. Others may wait
  /// for any of them, so no wait may leave one out.
  void advance();

  /// Where its communicators count what they exchange.
  [[nodiscard]] TrafficCounter& counter() { return counter_; }
  /// Of all communicators over it, since it was last taken.
  [[nodiscard]] Traffic take_traffic() { return counter_.take(now()); }

  /// A rank that waits has nothing else to do until something moves. Returns
  /// whether this was enough to move something.
  virtual bool idle() { return false; }

  /// Seconds since some moment; modelled ones, where time is modelled.
  [[nodiscard]] virtual double now() const;

  /// Tells every rank that this one cannot go on. The first to say so is the
  /// one they name.
  virtual void abandon(std::string_view why) noexcept = 0;
  /// Whether that ends this process at once.
  [[nodiscard]] virtual bool abandons_by_exit() const { return false; }

  // From memory of allocate() messages go the shortest way; they may lie
  // elsewhere, too.

 private:
  int lanes_taken_ = 0, ranks_per_node_ = 0;
  std::vector<Client*> clients_;
  TrafficCounter counter_;
};

}  // namespace catena
