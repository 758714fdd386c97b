#include <algorithm>
#include <utility>

#include "parallel/complaint.h"
#include "parallel/gloo/gloo_transport.h"

namespace catena::gloo {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::microseconds;

/// How often senders are answered while this rank computes.
constexpr microseconds kPulse(200);
/// How often it is looked whether connections are still there.
constexpr std::chrono::milliseconds kLook(1);
/// A rank that waits leaves its core to Gloo's thread: after so many turns, it
/// rests so long. Kernels give a core to a thread that wakes late, if the one
/// that has it only spins and yields.
constexpr int kTurns = 32;
constexpr microseconds kRest(20);

}  // namespace

std::unique_ptr<Peer> GlooTransport::meet(int peer) {
  try {
    return std::make_unique<Peer>(mesh_, peer);
  } catch (const std::exception& error) {
    fail(ErrorKind::kCommunication,
         "rank {} has died while ranks joined: its connection to rank {} is "
         "lost ({})",
         peer, rank(), error.what());
  }
}

template <class LineType>
void GlooTransport::post(
    int to, int lane,
    std::array<std::unique_ptr<LineType>, kLanes> Peer::*lines,
    const Message& message) {
  CATENA_CHECK(
      to >= 0 && to < size() && mesh_.joins(to) && lane >= 0 && lane < kLanes,
      "[transport] rank {} posts to {} of {}, lane {}", rank(), to, size(),
      lane);
  const std::lock_guard lock(mutex_);
  throw_if_failed();
  Peer& peer = *peers_[static_cast<std::size_t>(to)];
  auto& line = (peer.*lines)[static_cast<std::size_t>(lane)];
  try {
    if (!line) line = std::make_unique<LineType>(mesh_, to, lane);
  } catch (const std::exception& error) {
    lost(peer, error.what());
    const std::string why = has_ended(to, rank(), message.tag);
    fail_all(rank(), why, why);
    throw_if_failed();
  }
  ++*message.open;
  turns_ = 0;
  line->add(message);
  advance(peer);
  throw_if_failed();
  if (std::exchange(idle_, false)) wake_.notify_one();
}

void GlooTransport::send(int to, int lane, const void* data, std::int64_t bytes,
                         std::uint64_t tag, std::int64_t& open) {
  post(to, lane, &Peer::out,
       {static_cast<std::byte*>(const_cast<void*>(data)), bytes, tag, &open});
}

void GlooTransport::receive(int from, int lane, void* data, std::int64_t bytes,
                            std::uint64_t tag, std::int64_t& open) {
  post(from, lane, &Peer::in,
       {static_cast<std::byte*>(data), bytes, tag, &open});
}

void GlooTransport::progress() {
  std::size_t reaped = 0;
  bool waits = false;
  {
    const std::lock_guard lock(mutex_);
    if (!failed_) step();
    stepped_ = true;
    throw_if_failed();
    for_peers([&](Peer& peer) {
      for_lines(peer, [&](Line& line) {
        reaped += line.reap();
        waits = waits || line.waits();
      });
    });
  }
  turns_ = reaped > 0 || !waits ? 0 : turns_ + 1;
  if (turns_ > kTurns) std::this_thread::sleep_for(kRest);
}

void GlooTransport::pump() {
  std::unique_lock lock(mutex_);
  while (!stop_) {
    idle_ = failed_ || !waits();
    if (idle_) {
      wake_.wait(lock);
      continue;
    }
    if (!std::exchange(stepped_, false)) step();
    for_peers([this](Peer& peer) { answer(peer); });
    lock.unlock();
    do {
      std::this_thread::sleep_for(kPulse);
    } while (!lock.try_lock());
  }
}

void GlooTransport::answer(Peer& peer) {
  if (failed_ || peer.ended) return;
  try {
    for (const auto& line : peer.in) {
      if (line && line->owes_answer()) line->answer();
    }
  } catch (const std::exception& error) {
    lost(peer, error.what());
  }
}

const Line* GlooTransport::waiting(Peer& peer) {
  const Line* found = nullptr;
  for_lines(peer, [&](const Line& line) {
    if (found == nullptr && line.waits()) found = &line;
  });
  return found;
}

bool GlooTransport::waits() const {
  return std::any_of(peers_.begin(), peers_.end(), [](const auto& peer) {
    return peer && !peer->ended &&
           (waiting(*peer) != nullptr ||
            std::any_of(peer->in.begin(), peer->in.end(), [](const auto& line) {
              return line && line->owes_answer();
            }));
  });
}

void GlooTransport::step() {
  for_peers([this](Peer& peer) { advance(peer); });
  const auto now = Clock::now();
  if (failed_ || now - looked_ < kLook) return;
  looked_ = now;
  for_peers([this](Peer& peer) {
    if (failed_ || peer.ended) return;
    try {
      peer.farewell.look_for_loss(Way::kIn);
      peer.farewell.look_for_loss(Way::kOut);
    } catch (const std::exception& error) {
      lost(peer, error.what());
    }
  });
}

void GlooTransport::advance(Peer& peer) {
  if (failed_) return;
  try {
    for (const auto& line : peer.out) {
      if (line && !peer.ended && !line->all_answered()) line->advance();
    }
    for (const auto& line : peer.in) {
      if (line && line->waits() && !failed_) advance(peer, *line);
    }
    if (!peer.ended) listen(peer);
  } catch (const std::exception& error) {
    lost(peer, error.what());
  }
  if (peer.ended) check_ended(peer);
}

void GlooTransport::advance(Peer& peer, Incoming& line) {
  const auto wrong = line.advance();
  if (!wrong) return;
  const Message& message = line.first();
  const std::string why = not_in_step({peer.rank, wrong->bytes, wrong->tag},
                                      {rank(), message.bytes, message.tag});
  fail_all(rank(), why, why);
}

/// The last word may have come after what was looked at, but not before what
/// it counts: lines are looked at again.
void GlooTransport::listen(Peer& peer) {
  if (!peer.farewell.heard()) return;
  const LastWord& word = peer.farewell.content();
  if (word.kind == LastWord::Kind::kGaveUp) {
    fail_all(word.origin, word.why(), gave_up(word.origin, word.why()));
    return;
  }
  peer.ended = true;
  for (std::size_t lane = 0; lane < peer.out.size(); ++lane) {
    if (peer.out[lane]) peer.out[lane]->answered(word.received[lane]);
    if (peer.in[lane] && peer.in[lane]->waits() && !failed_) {
      advance(peer, *peer.in[lane]);
    }
  }
}

bool available() { return true; }
void require() {}

std::unique_ptr<Transport> connect(int rank, int size, Store& store,
                                   const Options& options) {
  return std::make_unique<GlooTransport>(rank, size, store, options);
}

}  // namespace catena::gloo
