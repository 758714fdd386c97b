#include "parallel/slot_transport.h"

#include <algorithm>
#include <cstring>
#include <thread>

#include "parallel/complaint.h"
#include "parallel/tag.h"
#include "runtime/base/error.h"

namespace catena {
namespace {

using Clock = std::chrono::steady_clock;

/// Up to here a message from private memory is copied aside.
constexpr std::int64_t kAsideBytes = 4 * 1024;
/// For which a line has room at once: those in slots, and those that are
/// through and not forgotten.
constexpr std::size_t kMessages = 2 * Channel::kSlots;
constexpr std::int64_t kBouncePieces = 32, kBounceStep = 4;
/// How often ranks that keep this one waiting are looked after.
constexpr std::chrono::milliseconds kLook(10);

std::size_t size_of(std::int64_t bytes) {
  return static_cast<std::size_t>(bytes);
}

}  // namespace

SlotTransport::SlotTransport(int rank, int size, Duration patience)
    : rank_(rank),
      size_(size),
      patience_(patience),
      lines_(static_cast<std::size_t>(2 * size * kLanes)) {
  // How much is under way at a time depends on how far ahead a rank is.
  for (auto& busy : busy_) busy.reserve(lines_.size());
}

void SlotTransport::leave() noexcept {
  retract();
  record(rank_).ended.store(1, std::memory_order_release);
}

int SlotTransport::failed_rank() const {
  return first_failed().load(std::memory_order_acquire);
}

void SlotTransport::abandon(std::string_view why) noexcept {
  if (!gave_up_ && failed_rank() < 0) {
    gave_up_ = true;
    RankRecord& own = record(rank_);
    const std::size_t bytes = std::min(why.size(), RankRecord::kTextBytes);
    std::memcpy(own.text, why.data(), bytes);
    own.text_bytes = static_cast<std::uint32_t>(bytes);
    std::int32_t none = -1;
    first_failed().compare_exchange_strong(none, rank_,
                                           std::memory_order_acq_rel);
  }
  retract();
}

void SlotTransport::throw_if_failed() {
  const int failed = failed_rank();
  if (failed < 0) return;
  retract();
  const RankRecord& record = this->record(failed);
  fail(ErrorKind::kCommunication, "{}",
       gave_up(failed, {record.text, record.text_bytes}));
}

/// Takes back what is in slots and not copied.
void SlotTransport::retract() noexcept {
  for (auto& busy : busy_) {
    for (Line* line : busy) {
      for (std::size_t i = line->next; i < line->posted; ++i) {
        if (line->messages[i].through) continue;
        slot(*line, i).retract();
        wait_for_copy(*line, i);
      }
      line->first += line->posted - line->next;
      line->messages.clear();
      line->next = line->posted = 0;
    }
    busy.clear();
  }
}

void SlotTransport::wait_for_copy(Line& line, std::size_t message) noexcept {
  const Slot& slot = SlotTransport::slot(line, message);
  const Slot::Part& own =
      line.side == Side::kSender ? slot.sender : slot.receiver;
  if (own.address == kPrivate) return;  // nobody else touches it
  const auto begin = Clock::now();
  for (Slot::State now = slot.state(); now.claimed() != now.copied();
       now = slot.state()) {
    if (Clock::now() - begin > patience_ || died(line.peer)) return;
    std::this_thread::yield();
  }
}

void SlotTransport::send(int to, int lane, const void* data, std::int64_t bytes,
                         std::uint64_t tag, std::int64_t& open) {
  post(Side::kSender, to, lane,
       {static_cast<std::byte*>(const_cast<void*>(data)), bytes, tag, &open});
}

void SlotTransport::receive(int from, int lane, void* data, std::int64_t bytes,
                            std::uint64_t tag, std::int64_t& open) {
  post(Side::kReceiver, from, lane,
       {static_cast<std::byte*>(data), bytes, tag, &open});
}

void SlotTransport::post(Side side, int peer, int lane,
                         const Message& message) {
  throw_if_failed();
  CATENA_CHECK(peer >= 0 && peer < size_ && peer != rank_,
               "[transport] rank {} posts to {} of {}", rank_, peer, size_);
  const bool sends = side == Side::kSender;
  Line& line = lines_[static_cast<std::size_t>((peer * kLanes + lane) * 2 +
                                               (sends ? 1 : 0))];
  if (line.channel == nullptr) {
    line.channel =
        sends ? &channel(rank_, peer, lane) : &channel(peer, rank_, lane);
    line.side = side;
    line.peer = peer;
    line.messages.reserve(kMessages);
  }
  if (line.messages.empty()) busy_[sends ? 0 : 1].push_back(&line);
  if (line.next >= Channel::kSlots) {
    line.messages.erase(
        line.messages.begin(),
        line.messages.begin() + static_cast<std::ptrdiff_t>(line.next));
    line.posted -= line.next;
    line.next = 0;
  }
  ++*message.open;
  line.messages.push_back(message);
  put(line);
}

/// Posts what there are slots for.
void SlotTransport::put(Line& line) {
  while (line.posted < line.messages.size() &&
         line.posted - line.next < Channel::kSlots) {
    Slot& slot = SlotTransport::slot(line, line.posted);
    if (slot.state().holds(line.side)) return;
    if (!slot.post(line.side, part_of(line, slot))) return;
    ++line.posted;
  }
}

/// This side's part of the next message to post.
Slot::Part SlotTransport::part_of(Line& line, const Slot& slot) {
  const Message& message = line.messages[line.posted];
  Slot::Part part{message.bytes == 0 ? 0 : address(message.data, message.bytes),
                  message.bytes, message.tag};
  if (part.address != kPrivate || line.side == Side::kReceiver ||
      message.bytes > kAsideBytes) {
    return part;
  }
  if (slot.state().holds(Side::kReceiver) &&
      slot.receiver.address != kPrivate) {
    return part;  // it can be brought there at once
  }
  if (line.aside == nullptr) {
    line.aside = static_cast<std::byte*>(
        allocate(size_of(kAsideBytes) * Channel::kSlots));
  }
  const std::size_t index = static_cast<std::size_t>(
      &slot - static_cast<const Slot*>(line.channel->slots));
  std::byte* const aside = line.aside + index * size_of(kAsideBytes);
  std::memcpy(aside, message.data, size_of(message.bytes));
  part.address = address(aside, message.bytes);
  return part;
}

void SlotTransport::progress() {
  throw_if_failed();
  for (auto& busy : busy_) {
    for (std::size_t i = 0; i < busy.size();) {
      Line& line = *busy[i];
      advance(line);
      if (line.next < line.messages.size()) {
        ++i;
        continue;
      }
      line.messages.clear();
      line.next = line.posted = 0;
      busy[i] = busy.back();
      busy.pop_back();
    }
  }
  look_after_peers();
}

/// Looks, now and then, whether those that keep this rank waiting are there.
void SlotTransport::look_after_peers() {
  if (busy_[0].empty() && busy_[1].empty()) {
    waiting_ = false;
    return;
  }
  const auto now = Clock::now();
  if (!waiting_) looked_ = now;
  waiting_ = true;
  if (now - looked_ < kLook) return;
  looked_ = now;
  for (auto& busy : busy_) {
    for (Line* line : busy) check_peer(*line);
  }
}

/// Throws if the other side is gone without its part of the next message.
void SlotTransport::check_peer(Line& line) {
  const bool ended =
      record(line.peer).ended.load(std::memory_order_acquire) != 0;
  if (ended && line.next < line.posted) {
    const Slot::State state = slot(line, line.next).state();
    if (state.holds(other(line.side)) && !state.retracted()) return;
  }
  if (!ended && !died(line.peer)) return;
  throw_if_failed();
  const std::string why = fmt::format(
      "rank {} has {}, and rank {} waits for it in {}", line.peer,
      ended ? "ended" : "died", rank_, text_of(line.messages[line.next].tag));
  abandon(why);
  fail(ErrorKind::kCommunication, "{}", why);
}

void SlotTransport::fail_mismatch(const Line& line, const Slot& slot) {
  const bool sends = line.side == Side::kSender;
  const std::string why = fmt::format(
      "ranks are not in step: rank {} sends {} bytes of {}, rank {} expects "
      "{} bytes of {}",
      sends ? rank_ : line.peer, slot.sender.bytes, text_of(slot.sender.tag),
      sends ? line.peer : rank_, slot.receiver.bytes,
      text_of(slot.receiver.tag));
  abandon(why);
  fail(ErrorKind::kCommunication, "{}", why);
}

void SlotTransport::advance(Line& line) {
  for (std::size_t i = line.next; i < line.posted; ++i) copy(line, i);
  for (; line.next < line.posted; ++line.next, ++line.first) {
    const Message& message = line.messages[line.next];
    if (!message.through) break;
    --*message.open;
  }
  put(line);
}

/// Brings a message on, as far as this side can now.
void SlotTransport::copy(Line& line, std::size_t number) {
  Message& message = line.messages[number];
  if (message.through) return;
  Slot& slot = SlotTransport::slot(line, number);
  const Slot::State state = slot.state();
  if (!state.matched() || state.retracted()) return;
  if (slot.sender.bytes != slot.receiver.bytes ||
      slot.sender.tag != slot.receiver.tag) {
    fail_mismatch(line, slot);
  }
  if (state.copied() == Slot::pieces(message.bytes)) {
    slot.clear();
    message.through = true;
    return;
  }
  const bool sends = line.side == Side::kSender;
  const Address there = sends ? slot.receiver.address : slot.sender.address;
  const Address here = sends ? slot.sender.address : slot.receiver.address;
  if (there != kPrivate) {
    share_copy(slot, place(there), sends, message);
  } else if (here == kPrivate && number == line.next) {
    if (sends) {
      bounce_out(line, slot, message);
    } else {
      bounce_in(slot, message);
    }
  }
}

/// Straight from place to place, while the other side may do the same.
void SlotTransport::share_copy(Slot& slot, std::byte* there, bool sends,
                               Message& message) {
  std::byte* const to = sends ? there : message.data;
  const std::byte* const from = sends ? message.data : there;
  const std::int64_t pieces = Slot::pieces(message.bytes);
  while (!message.through) {
    const Slot::Claim claim = slot.claim(pieces);
    if (claim.count == 0) return;
    const std::int64_t begin = claim.begin * Slot::kPieceBytes;
    const std::int64_t end =
        std::min(message.bytes, begin + claim.count * Slot::kPieceBytes);
    if (end > begin) {
      std::memcpy(to + begin, from + begin, size_of(end - begin));
    }
    message.through = slot.finish(claim, pieces);
  }
}

/// Fills what is free of the buffer, in steps that the receiver can follow.
void SlotTransport::bounce_out(Line& line, Slot& slot, const Message& message) {
  if (line.bounce == nullptr) {
    line.bounce = static_cast<std::byte*>(
        allocate(size_of(kBouncePieces * Slot::kPieceBytes)));
  }
  if (slot.state().claimed() == 0) {
    slot.bounce = address(line.bounce, kBouncePieces * Slot::kPieceBytes);
  }
  const std::int64_t pieces = Slot::pieces(message.bytes);
  for (;;) {
    const Slot::State state = slot.state();
    const std::int64_t piece = state.claimed();
    const std::int64_t count =
        std::min({kBounceStep, pieces - piece,
                  kBouncePieces - (piece - state.copied())});
    if (count == 0) return;
    for (std::int64_t i = piece; i < piece + count; ++i) {
      const std::int64_t begin = i * Slot::kPieceBytes;
      std::memcpy(line.bounce + i % kBouncePieces * Slot::kPieceBytes,
                  message.data + begin,
                  size_of(std::min(Slot::kPieceBytes, message.bytes - begin)));
    }
    slot.claim_next(count);
  }
}

void SlotTransport::bounce_in(Slot& slot, Message& message) {
  const std::int64_t pieces = Slot::pieces(message.bytes);
  for (Slot::State state = slot.state(); state.copied() < state.claimed();
       state = slot.state()) {
    const std::byte* const bounce = place(slot.bounce);
    const std::int64_t piece = state.copied(),
                       begin = piece * Slot::kPieceBytes;
    std::memcpy(message.data + begin,
                bounce + piece % kBouncePieces * Slot::kPieceBytes,
                size_of(std::min(Slot::kPieceBytes, message.bytes - begin)));
    message.through = slot.finish({piece, 1}, pieces);
    if (message.through) return;
  }
}

}  // namespace catena
