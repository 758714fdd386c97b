#pragma once

#include <atomic>
#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "parallel/slot.h"
#include "parallel/transport.h"

namespace catena {

/// What a rank says of itself to all.
struct RankRecord {
  static constexpr std::size_t kTextBytes = 1000;
  std::atomic<std::uint32_t> ended = 0;
  /// Why it gave up; written before it is named as the first that did.
  std::uint32_t text_bytes = 0;
  char text[kTextBytes]{};
};

/// A transport between ranks that share memory: slots, a record a rank, and
/// the name of the first rank that gave up.
///
/// What one rank can reach of the other's goes straight from place to place,
/// copied by whoever comes by first, or both. What the sender alone can reach
/// is copied aside when it is small, so that the receiver can go on without
/// it; between two such places, the sender's progress() moves it on through a
/// buffer. See base for the rest.
class SlotTransport : public Transport {
 public:
  using Duration = std::chrono::duration<double>;

  [[nodiscard]] int rank() const final { return rank_; }
  [[nodiscard]] int size() const final { return size_; }

  /// Posts only: progress() copies.
  void send(int to, int lane, const void* data, std::int64_t bytes,
            std::uint64_t tag, std::int64_t& open) final;
  void receive(int from, int lane, void* data, std::int64_t bytes,
               std::uint64_t tag, std::int64_t& open) final;
  void progress() final;
  void abandon(std::string_view why) noexcept final;
  /// Takes back what is under way, and says that this rank has ended. The last
  /// call, and the destructor's, while the rest can still be.
  void leave() noexcept;

  /// The first rank that gave up, or -1.
  [[nodiscard]] int failed_rank() const;

 protected:
  /// `patience`: for how long a rank that gives up waits for another that is
  /// copying from or to its memory. It must not come back later to memory
  /// that means something else by then.
  SlotTransport(int rank, int size, Duration patience);
  [[nodiscard]] virtual Channel& channel(int from, int to, int lane) = 0;
  [[nodiscard]] virtual RankRecord& record(int rank) = 0;
  /// -1, or the first rank that gave up.
  [[nodiscard]] virtual std::atomic<std::int32_t>& first_failed() const = 0;
  [[nodiscard]] virtual Address address(const void* data,
                                        std::int64_t bytes) const = 0;
  [[nodiscard]] virtual std::byte* place(Address address) const = 0;
  /// Whether a rank is gone without a word. Asked when it keeps others waiting.
  [[nodiscard]] virtual bool died(int rank) = 0;

 private:
  struct Message {
    std::byte* data;
    std::int64_t bytes;
    std::uint64_t tag;
    std::int64_t* open;
    bool through = false;
  };
  /// This rank's side of a channel: messages in order, of which those before
  /// `next` are through and those before `posted` are in slots.
  struct Line {
    Channel* channel = nullptr;
    Side side = Side::kSender;
    int peer = 0;
    std::uint64_t first = 0;  ///< number of messages[next] on the channel
    std::size_t next = 0, posted = 0;
    std::vector<Message> messages;
    std::byte* aside = nullptr;   ///< a small place a slot
    std::byte* bounce = nullptr;  ///< for the message at `next`
  };

  void throw_if_failed();
  void retract() noexcept;
  void wait_for_copy(Line& line, std::size_t message) noexcept;
  [[nodiscard]] static Slot& slot(Line& line, std::size_t message) {
    return line.channel
        ->slots[(line.first + (message - line.next)) % Channel::kSlots];
  }

  void post(Side side, int peer, int lane, const Message& message);
  void put(Line& line);
  [[nodiscard]] Slot::Part part_of(Line& line, const Slot& slot);
  void advance(Line& line);
  void copy(Line& line, std::size_t number);
  static void share_copy(Slot& slot, std::byte* there, bool sends,
                         Message& message);
  void bounce_out(Line& line, Slot& slot, const Message& message);
  void bounce_in(Slot& slot, Message& message);
  void look_after_peers();
  void check_peer(Line& line);
  [[noreturn]] void fail_mismatch(const Line& line, const Slot& slot);

  int rank_, size_;
  Duration patience_;
  bool gave_up_ = false;
  std::vector<Line> lines_;
  std::vector<Line*> busy_[2];  ///< that send, that receive
  bool waiting_ = false;
  std::chrono::steady_clock::time_point looked_;
};

}  // namespace catena
