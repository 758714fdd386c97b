#include "parallel/gloo/line.h"

#include <algorithm>
#include <cstring>

#include "runtime/base/error.h"

namespace catena::gloo {
namespace {

std::uint64_t mixed(std::uint64_t tag, std::int64_t bytes) {
  std::uint64_t x = tag ^ static_cast<std::uint64_t>(bytes) *
                              std::uint64_t{0x9e3779b97f4a7c15};
  x = (x ^ x >> 30) * std::uint64_t{0xbf58476d1ce4e5b9};
  x = (x ^ x >> 27) * std::uint64_t{0x94d049bb133111eb};
  return x ^ x >> 31;
}

}  // namespace

__attribute__((noinline, no_sanitize("thread"))) bool has_come(
    const unsigned char& mark, std::uint64_t number) {
  return static_cast<const volatile unsigned char&>(mark) == mark_of(number);
}

std::uint64_t Line::data_slot(std::uint64_t number) const {
  const Message& m = message(number);
  return slot(Use::kData, lane_, number, mixed(m.tag, m.bytes));
}

std::size_t Line::reap() {
  const std::uint64_t before = reaped_;
  for (; reaped_ < through_; ++reaped_) {
    --*messages_.front().open;
    messages_.pop_front();
  }
  return reaped_ - before;
}

void Line::forget() {
  for (auto& data : data_) data.reset();
}

Outgoing::Outgoing(const Mesh& mesh, int peer, int lane)
    : Line(mesh, Way::kOut, peer, lane) {
  for (auto& block : blocks_) {
    block.buffer = buffer(&block.content, sizeof block.content);
  }
  answer_.buffer = buffer(&answer_.content, sizeof answer_.content);
  expect_answer();
}

void Outgoing::expect_answer() {
  answer_.buffer->recv(peer_, slot(Use::kAnswer, lane_, number_));
}

void Outgoing::advance() {
  while (has_come(answer_.content.mark, number_)) {
    (void)answer_.buffer->waitRecv(kSoon);
    answered(answer_.content.count);
    ++number_;
    expect_answer();
  }
  while (posted_ < all_ && posted_ - answered_ < kWindow) post();
  while (through_ < posted_ &&
         (through_ < answered_ || !is_long(message(through_)))) {
    ++through_;
  }
}

void Outgoing::answered(std::uint64_t count) {
  if (count > posted_) {
    fail(ErrorKind::kInternal, "[gloo] rank {} has {} messages of {}", peer_,
         count, posted_);
  }
  for (; answered_ < count; ++answered_) data_[answered_ % kWindow].reset();
  through_ = std::max(through_, answered_);
}

void Outgoing::post() {
  const std::uint64_t number = posted_;
  const Message& m = message(number);
  Place<Block>& place = blocks_[number % kWindow];
  if (number >= kWindow) (void)place.buffer->waitSend(kSoon);
  place.content.tag = m.tag;
  place.content.bytes = m.bytes;
  place.content.mark = mark_of(number);
  if (is_long(m)) {
    auto& data = data_[number % kWindow];
    data = buffer(m);
    data->send(peer_, data_slot(number));
  } else if (m.bytes > 0) {
    std::memcpy(place.content.data.data(), m.data,
                static_cast<std::size_t>(m.bytes));
  }
  place.buffer->send(peer_, block_slot(number));
  ++posted_;
}

Incoming::Incoming(const Mesh& mesh, int peer, int lane)
    : Line(mesh, Way::kIn, peer, lane) {
  for (auto& block : blocks_) {
    block.buffer = buffer(&block.content, sizeof block.content);
  }
  for (auto& answer : answers_) {
    answer.buffer = buffer(&answer.content, sizeof answer.content);
  }
}

std::optional<Incoming::Wrong> Incoming::advance() {
  while (through_ < posted_) {
    Place<Block>& place = blocks_[through_ % kWindow];
    if (!has_come(place.content.mark, through_)) break;
    (void)place.buffer->waitRecv(kSoon);
    const Message& m = message(through_);
    if (place.content.tag != m.tag || place.content.bytes != m.bytes) {
      return Wrong{place.content.bytes, place.content.tag};
    }
    take(through_);
    ++through_;
  }
  while (posted_ < all_ && posted_ - through_ < kWindow) post();
  if (urgent_ || through_ - answered_ >= kWindow / 2) answer();
  return std::nullopt;
}

void Incoming::take(std::uint64_t number) {
  const Message& m = message(number);
  if (is_long(m)) {
    auto& data = data_[number % kWindow];
    (void)data->waitRecv(kSoon);
    data.reset();
    urgent_ = true;
  } else if (m.bytes > 0) {
    std::memcpy(m.data, blocks_[number % kWindow].content.data.data(),
                static_cast<std::size_t>(m.bytes));
  }
}

void Incoming::post() {
  const std::uint64_t number = posted_;
  const Message& m = message(number);
  if (is_long(m)) {
    auto& data = data_[number % kWindow];
    data = buffer(m);
    data->recv(peer_, data_slot(number));
  }
  blocks_[number % kWindow].buffer->recv(peer_, block_slot(number));
  ++posted_;
}

void Incoming::answer() {
  Place<Answer>& place = answers_[number_ % answers_.size()];
  if (number_ >= answers_.size()) (void)place.buffer->waitSend(kSoon);
  place.content.count = through_;
  place.content.mark = mark_of(number_);
  place.buffer->send(peer_, slot(Use::kAnswer, lane_, number_));
  answered_ = through_;
  urgent_ = false;
  ++number_;
}

}  // namespace catena::gloo
