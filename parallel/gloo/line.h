#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>

#include "parallel/gloo/mesh.h"

namespace catena::gloo {

/// One side of a message.
struct Message {
  std::byte* data;
  std::int64_t bytes;
  std::uint64_t tag;
  std::int64_t* open;
};

/// Foreign memory whose last byte says that all of it has come. TCP keeps the
/// order, and number n is marked unlike the ones before it in the same memory.
[[nodiscard]] constexpr unsigned char mark_of(std::uint64_t number) {
  return static_cast<unsigned char>(number % 255 + 1);
}
/// Only a hint that waiting for `mark`s message takes no time: that wait orders
/// the memory.
[[nodiscard]] bool has_come(const unsigned char& mark, std::uint64_t number);

/// What goes first of every message, and of a short one is all: the same size
/// on both sides, so that two that are not in step notice.
struct alignas(64) Block {
  static constexpr std::int64_t kShortBytes = 488;
  std::uint64_t tag = 0;
  std::int64_t bytes = 0;
  std::array<std::byte, kShortBytes> data{};
  std::array<unsigned char, 7> unused{};
  unsigned char mark = 0;
};
static_assert(sizeof(Block) == 512);

/// The receiver's answer: so many messages of this line have come, ever.
struct alignas(16) Answer {
  std::uint64_t count = 0;
  std::array<unsigned char, 7> unused{};
  unsigned char mark = 0;
};
static_assert(sizeof(Answer) == 16);

/// Memory with a buffer of Gloo's.
template <class T>
struct Place {
  T content;
  std::unique_ptr<Buffer> buffer;  ///< goes first
};

/// The messages of one lane in one direction between two ranks, by number:
///
///   reaped <= through <= posted <= all
///
/// Those posted are in Gloo's hands; those through are done, and reap() tells
/// their owner. A long message is sent ahead of its block, in a slot that only
/// the same tag and length open: so when the block is there, the rest is, and a
/// wrong one goes nowhere.
/// Thread rule: one at a time. Throws: what Gloo says of a lost connection.
class Line {
 public:
  Line(const Mesh& mesh, Way way, int peer, int lane)
      : mesh_(mesh), way_(way), peer_(peer), lane_(lane) {}
  Line(const Line&) = delete;
  Line& operator=(const Line&) = delete;

  void add(const Message& message) {
    messages_.push_back(message);
    ++all_;
  }
  /// Takes back 1 of `open` of all messages that are through. Returns of how
  /// many.
  std::size_t reap();
  [[nodiscard]] bool waits() const { return through_ < all_; }
  /// The first that is not through.
  [[nodiscard]] const Message& first() const { return message(through_); }
  [[nodiscard]] std::uint64_t through() const { return through_; }
  /// Takes all memory of messages out of Gloo's hands.
  void forget();

 protected:
  static constexpr std::uint64_t kWindow = 16;
  [[nodiscard]] const Message& message(std::uint64_t number) const {
    return messages_[number - reaped_];
  }
  [[nodiscard]] static bool is_long(const Message& message) {
    return message.bytes > Block::kShortBytes;
  }
  [[nodiscard]] std::uint64_t block_slot(std::uint64_t number) const {
    return slot(Use::kBlock, lane_, number);
  }
  [[nodiscard]] std::uint64_t data_slot(std::uint64_t number) const;
  [[nodiscard]] std::unique_ptr<Buffer> buffer(void* data,
                                               std::size_t bytes) const {
    return mesh_.buffer(way_, peer_, data, bytes);
  }
  [[nodiscard]] std::unique_ptr<Buffer> buffer(const Message& message) const {
    return buffer(message.data, static_cast<std::size_t>(message.bytes));
  }

  const Mesh& mesh_;
  const Way way_;
  const int peer_, lane_;
  std::deque<Message> messages_;
  std::uint64_t reaped_ = 0, through_ = 0, posted_ = 0, all_ = 0;
  std::array<Place<Block>, kWindow> blocks_;
  std::array<std::unique_ptr<Buffer>, kWindow> data_;
};

/// A short message is through once it is copied to its block, a long one when
/// the receiver has answered. At most kWindow have no answer.
class Outgoing final : public Line {
 public:
  Outgoing(const Mesh& mesh, int peer, int lane);
  /// Reads answers and posts what may be posted.
  void advance();
  /// The peer has received `count` messages.
  void answered(std::uint64_t count);
  [[nodiscard]] bool all_answered() const { return answered_ == all_; }

 private:
  void post();
  void expect_answer();

  Place<Answer> answer_;
  std::uint64_t answered_ = 0, number_ = 0;
};

/// At most kWindow messages are posted and not through.
class Incoming final : public Line {
 public:
  Incoming(const Mesh& mesh, int peer, int lane);
  /// What the peer sends in place of first().
  struct Wrong {
    std::int64_t bytes;
    std::uint64_t tag;
  };
  /// Takes what has come and posts what may be posted. Answers if somebody may
  /// wait for that.
  [[nodiscard]] std::optional<Wrong> advance();
  [[nodiscard]] bool owes_answer() const { return answered_ < through_; }
  void answer();

 private:
  void post();
  void take(std::uint64_t number);

  // The sender has at most kWindow messages without an answer, and each answer
  // is of one at least.
  std::array<Place<Answer>, 2 * kWindow> answers_;
  std::uint64_t answered_ = 0, number_ = 0;
  bool urgent_ = false;
};

}  // namespace catena::gloo
