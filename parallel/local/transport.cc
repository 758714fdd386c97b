#include "parallel/local/transport.h"

#include <atomic>
#include <cstring>
#include <exception>
#include <mutex>
#include <new>
#include <string>
#include <thread>

#include "parallel/tag.h"
#include "runtime/base/error.h"

namespace catena::local {
namespace {

constexpr std::size_t kSlots = 16;
constexpr std::size_t kAlignment = 64;

/// A message that both sides write their part of. Whoever comes last copies.
struct alignas(64) Slot {
  // A side that has seen kCopied leaves; when both have left, 0 again. A side
  // that fails retracts, so that nobody copies from or to what it gives back.
  static constexpr std::uint32_t kSender = 1, kReceiver = 2, kCopied = 4,
                                 kSenderLeft = 8, kReceiverLeft = 16,
                                 kRetracted = 32;
  std::atomic<std::uint32_t> state = 0;
  const void* from = nullptr;
  void* to = nullptr;
  std::int64_t sent_bytes = 0, wanted_bytes = 0;
  std::uint64_t sent_tag = 0, wanted_tag = 0;
};

/// One direction between two ranks, on one lane.
struct Channel {
  Slot slots[kSlots];
};

}  // namespace

class World {
 public:
  explicit World(int size)
      : size_(size),
        channels_(static_cast<std::size_t>(size * size * Transport::kLanes)),
        ended_(static_cast<std::size_t>(size)) {}

  [[nodiscard]] int size() const { return size_; }
  [[nodiscard]] Channel& channel(int from, int to, int lane) {
    return channels_[static_cast<std::size_t>(
        (from * size_ + to) * Transport::kLanes + lane)];
  }

  /// Returns whether this was the first failure.
  bool fail_all(int rank, std::string_view why) {
    const std::lock_guard lock(mutex_);
    if (failed_.load(std::memory_order_relaxed)) return false;
    failed_rank_ = rank;
    why_ = why;
    failed_.store(true, std::memory_order_release);
    return true;
  }
  [[nodiscard]] bool failed() const {
    return failed_.load(std::memory_order_acquire);
  }
  void end(int rank) {
    ended_[static_cast<std::size_t>(rank)].store(true,
                                                 std::memory_order_release);
  }
  [[nodiscard]] bool ended(int rank) const {
    return ended_[static_cast<std::size_t>(rank)].load(
        std::memory_order_acquire);
  }
  [[nodiscard]] int failed_rank() const { return failed_rank_; }
  [[nodiscard]] const std::string& why() const { return why_; }

 private:
  int size_;
  std::vector<Channel> channels_;
  std::mutex mutex_;
  std::atomic<bool> failed_ = false;
  std::vector<std::atomic<bool>> ended_;
  int failed_rank_ = -1;
  std::string why_;
};

namespace {

class LocalTransport final : public Transport {
 public:
  LocalTransport(std::shared_ptr<World> world, int rank)
      : world_(std::move(world)),
        rank_(rank),
        lines_(static_cast<std::size_t>(2 * world_->size() * kLanes)) {}
  ~LocalTransport() override {
    retract();
    world_->end(rank_);
  }

  [[nodiscard]] int rank() const override { return rank_; }
  [[nodiscard]] int size() const override { return world_->size(); }
  [[nodiscard]] std::string_view description() const override {
    return "threads of one process";
  }

  void send(int to, int lane, const void* data, std::int64_t bytes,
            std::uint64_t tag, std::int64_t& open) override {
    post(true, to, lane, {const_cast<void*>(data), bytes, tag, &open});
  }
  void receive(int from, int lane, void* data, std::int64_t bytes,
               std::uint64_t tag, std::int64_t& open) override {
    post(false, from, lane, {data, bytes, tag, &open});
  }

  void progress() override {
    throw_if_failed();
    for (std::size_t i = 0; i < busy_.size();) {
      advance(*busy_[i]);
      if (busy_[i]->next == busy_[i]->messages.size()) {
        busy_[i]->messages.clear();
        busy_[i]->next = busy_[i]->posted = 0;
        busy_[i] = busy_.back();
        busy_.pop_back();
      } else {
        ++i;
      }
    }
  }

  void abandon(std::string_view why) noexcept override {
    world_->fail_all(rank_, why);
    retract();
  }

  [[nodiscard]] void* allocate(std::size_t bytes) override {
    return ::operator new(bytes, std::align_val_t(kAlignment));
  }
  void release(void* data, std::size_t bytes) noexcept override {
    ::operator delete(data, bytes, std::align_val_t(kAlignment));
  }

 private:
  struct Message {
    void* data;
    std::int64_t bytes;
    std::uint64_t tag;
    std::int64_t* open;
  };
  /// This rank's side of a channel: messages in order, of which those before
  /// `next` are through and those before `posted` are in slots.
  struct Line {
    Channel* channel = nullptr;
    bool sends = false;
    int peer = 0;
    std::uint64_t first = 0;  ///< number of messages[next] on the channel
    std::size_t next = 0, posted = 0;
    std::vector<Message> messages;
  };

  void throw_if_failed() {
    if (!world_->failed()) return;
    retract();
    fail(ErrorKind::kCommunication, "rank {} gave up: {}",
         world_->failed_rank(), world_->why());
  }

  /// Takes back what is in slots and not copied.
  void retract() noexcept {
    constexpr std::uint32_t kBoth = Slot::kSender | Slot::kReceiver;
    for (Line* line : busy_) {
      for (; line->next < line->posted; ++line->next, ++line->first) {
        std::atomic<std::uint32_t>& state = slot(*line, line->next).state;
        std::uint32_t now = state.fetch_or(Slot::kRetracted);
        while ((now & kBoth) == kBoth && (now & Slot::kCopied) == 0 &&
               (now & Slot::kRetracted) == 0) {
          std::this_thread::yield();  // the other side is copying
          now = state.load() & ~Slot::kRetracted;
        }
      }
    }
    busy_.clear();
  }

  void post(bool sends, int peer, int lane, const Message& message) {
    throw_if_failed();
    CATENA_CHECK(peer >= 0 && peer < size() && peer != rank_,
                 "[transport] rank {} posts to {} of {}", rank_, peer, size());
    Line& line = lines_[static_cast<std::size_t>((peer * kLanes + lane) * 2 +
                                                 (sends ? 1 : 0))];
    if (line.channel == nullptr) {
      line.channel = sends ? &world_->channel(rank_, peer, lane)
                           : &world_->channel(peer, rank_, lane);
      line.sends = sends;
      line.peer = peer;
    }
    if (line.messages.empty()) busy_.push_back(&line);
    if (line.next >= kSlots) {
      line.messages.erase(
          line.messages.begin(),
          line.messages.begin() + static_cast<std::ptrdiff_t>(line.next));
      line.posted -= line.next;
      line.next = 0;
    }
    ++*message.open;
    line.messages.push_back(message);
    advance(line);
  }

  void advance(Line& line) {
    while (line.next < line.posted) {
      if (!finished(line)) {
        check_peer(line);
        break;
      }
      --*line.messages[line.next].open;
      ++line.next;
      ++line.first;
    }
    while (line.posted < line.messages.size() &&
           line.posted - line.next < kSlots) {
      if (!put(line)) break;
      ++line.posted;
    }
  }

  /// Throws if the other side has ended without its part of the next message.
  void check_peer(Line& line) {
    if (!world_->ended(line.peer)) return;
    const std::uint32_t other = line.sends ? Slot::kReceiver : Slot::kSender;
    const std::uint32_t state = slot(line, line.next).state.load();
    if ((state & other) != 0 && (state & Slot::kRetracted) == 0) return;
    throw_if_failed();
    const std::string why =
        fmt::format("rank {} has ended, and rank {} waits for it in {}",
                    line.peer, rank_, text_of(line.messages[line.next].tag));
    abandon(why);
    fail(ErrorKind::kCommunication, "{}", why);
  }

  [[nodiscard]] static Slot& slot(Line& line, std::size_t message) {
    return line.channel->slots[(line.first + (message - line.next)) % kSlots];
  }

  /// Writes this side of the next message, and copies if the other was first.
  bool put(Line& line) {
    Slot& slot = LocalTransport::slot(line, line.posted);
    if ((slot.state.load(std::memory_order_acquire) & Slot::kCopied) != 0) {
      return false;  // the other side has not left the message before
    }
    const Message& message = line.messages[line.posted];
    if (line.sends) {
      slot.from = message.data;
      slot.sent_bytes = message.bytes;
      slot.sent_tag = message.tag;
    } else {
      slot.to = message.data;
      slot.wanted_bytes = message.bytes;
      slot.wanted_tag = message.tag;
    }
    const std::uint32_t mine = line.sends ? Slot::kSender : Slot::kReceiver;
    const std::uint32_t before =
        slot.state.fetch_or(mine, std::memory_order_acq_rel);
    if ((before | mine) != (Slot::kSender | Slot::kReceiver)) return true;
    if (slot.sent_tag != slot.wanted_tag ||
        slot.sent_bytes != slot.wanted_bytes) {
      slot.state.fetch_or(Slot::kCopied);  // so that nobody waits for it
      fail_mismatch(line, slot);
    }
    if (slot.sent_bytes > 0) {
      std::memcpy(slot.to, slot.from,
                  static_cast<std::size_t>(slot.sent_bytes));
    }
    slot.state.fetch_or(Slot::kCopied, std::memory_order_acq_rel);
    return true;
  }

  [[nodiscard]] static bool finished(Line& line) {
    Slot& slot = LocalTransport::slot(line, line.next);
    if ((slot.state.load(std::memory_order_acquire) & Slot::kCopied) == 0) {
      return false;
    }
    const std::uint32_t mine =
        line.sends ? Slot::kSenderLeft : Slot::kReceiverLeft;
    const std::uint32_t other =
        line.sends ? Slot::kReceiverLeft : Slot::kSenderLeft;
    const std::uint32_t before =
        slot.state.fetch_or(mine, std::memory_order_acq_rel);
    if ((before & other) != 0) slot.state.store(0, std::memory_order_release);
    return true;
  }

  [[noreturn]] void fail_mismatch(const Line& line, const Slot& slot) {
    const int sender = line.sends ? rank_ : line.peer;
    const int receiver = line.sends ? line.peer : rank_;
    const std::string why = fmt::format(
        "ranks are not in step: rank {} sends {} bytes of {}, rank {} expects "
        "{} bytes of {}",
        sender, slot.sent_bytes, text_of(slot.sent_tag), receiver,
        slot.wanted_bytes, text_of(slot.wanted_tag));
    abandon(why);
    fail(ErrorKind::kCommunication, "{}", why);
  }

  std::shared_ptr<World> world_;
  int rank_;
  std::vector<Line> lines_;
  std::vector<Line*> busy_;
};

std::string text_of(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const std::exception& exception) {
    return exception.what();
  } catch (...) {
    return "an exception without text";
  }
}

}  // namespace

std::shared_ptr<World> make_world(int size) {
  CATENA_CHECK(size > 0, "[local] a world of {} ranks", size);
  return std::make_shared<World>(size);
}

std::unique_ptr<Transport> join(std::shared_ptr<World> world, int rank) {
  CATENA_CHECK(rank >= 0 && rank < world->size(), "[local] rank {} of {}", rank,
               world->size());
  return std::make_unique<LocalTransport>(std::move(world), rank);
}

void run_ranks(int size, const std::function<void(Transport&)>& work) {
  const auto world = make_world(size);
  std::exception_ptr first;
  const auto run = [&](int rank) {
    const auto transport = join(world, rank);
    try {
      work(*transport);
    } catch (...) {
      const std::exception_ptr error = std::current_exception();
      world->fail_all(rank, text_of(error));
      if (world->failed_rank() == rank) first = error;
    }
  };
  {
    std::vector<std::jthread> threads;
    for (int rank = 1; rank < size; ++rank) threads.emplace_back(run, rank);
    run(0);
  }
  if (first) std::rethrow_exception(first);
}

}  // namespace catena::local
