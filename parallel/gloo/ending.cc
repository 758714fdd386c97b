// How a rank's part in a world ends: by itself, or because of another.

#include <algorithm>

#include "parallel/complaint.h"
#include "parallel/gloo/gloo_transport.h"
#include "parallel/tag.h"

namespace catena::gloo {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr std::chrono::microseconds kNap(200);
/// For how long the end waits for the others'.
constexpr milliseconds kLinger(2000);
/// For how long a rank that gave up waits until it has said so.
constexpr milliseconds kFarewell(500);

}  // namespace

/// What Gloo says when a connection is lost may come before what the peer said
/// last is looked at, or has come: of a peer that ends, either connection may
/// be the first to be seen closed.
void GlooTransport::lost(Peer& peer, const std::string& why) {
  const auto until = Clock::now() + kFarewell;
  const auto listens = [&] {
    if (failed_ || peer.ended) return false;
    try {
      listen(peer);
    } catch (const std::exception&) {
      // An answer to a rank that is gone.
    }
    return !failed_ && !peer.ended && Clock::now() < until;
  };
  try {
    while (listens()) {
      peer.farewell.look_for_loss(Way::kIn);
      std::this_thread::sleep_for(kNap);
    }
  } catch (const std::exception&) {
    listens();
  }
  if (failed_ || peer.ended) return;
  std::string text =
      fmt::format("rank {} has died: its connection to rank {} is lost ({})",
                  peer.rank, rank(), why);
  if (const Line* line = waiting(peer)) {
    text += fmt::format(", and rank {} waits for it in {}", rank(),
                        text_of(line->first().tag));
  }
  fail_all(rank(), text, text);
}

void GlooTransport::check_ended(Peer& peer) {
  const Line* line = failed_ ? nullptr : waiting(peer);
  if (line == nullptr) return;
  const std::string why = has_ended(peer.rank, rank(), line->first().tag);
  fail_all(rank(), why, why);
}

void GlooTransport::abandon(std::string_view why) noexcept {
  const std::lock_guard lock(mutex_);
  fail_all(rank(), std::string(why), gave_up(rank(), std::string(why)));
}

void GlooTransport::fail_all(int origin, const std::string& why,
                             std::string failure) {
  if (failed_) return;
  failed_ = true;
  failure_ = std::move(failure);
  LastWord word;
  word.kind = LastWord::Kind::kGaveUp;
  word.origin = origin;
  word.set_text(why);
  for_peers([&](Peer& peer) { peer.farewell.say(word); });
  for_peers(
      [](Peer& peer) { for_lines(peer, [](Line& line) { line.forget(); }); });
}

/// Short messages are through before they have come.
void GlooTransport::wait_for_answers() {
  const auto until =
      Clock::now() + std::chrono::ceil<Clock::duration>(deadline_);
  const auto open = [this] {
    const std::lock_guard lock(mutex_);
    bool found = false;
    if (!failed_) step();
    for_peers([&](Peer& peer) {
      for (const auto& line : peer.out) {
        found = found || (line && !peer.ended && !line->all_answered());
      }
    });
    return found && !failed_;
  };
  while (open() && Clock::now() < until) std::this_thread::sleep_for(kNap);
}

void GlooTransport::say_ended(Peer& peer) {
  LastWord word;
  for (std::size_t lane = 0; lane < peer.in.size(); ++lane) {
    if (peer.in[lane]) word.received[lane] = peer.in[lane]->through();
  }
  for_lines(peer, [](Line& line) { line.forget(); });
  peer.farewell.say(word);
}

void GlooTransport::linger() {
  const auto until = Clock::now() + kLinger;
  const auto silent = [&] {
    bool any = false;
    for_peers([&](Peer& peer) {
      if (peer.ended) return;
      try {
        peer.ended = peer.farewell.heard();
        peer.farewell.look_for_loss(Way::kIn);
      } catch (const std::exception&) {
        peer.ended = true;
      }
      any = any || !peer.ended;
    });
    return any;
  };
  while (silent() && Clock::now() < until) std::this_thread::sleep_for(kNap);
}

GlooTransport::~GlooTransport() {
  if (std::uncaught_exceptions() == exceptions_) wait_for_answers();
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_one();
  pump_.join();
  if (!failed_) {
    for_peers([this](Peer& peer) { say_ended(peer); });
    linger();
  }
  const auto until = Clock::now() + kFarewell;
  for_peers([&](Peer& peer) {
    peer.farewell.wait_until_written(
        std::max(milliseconds(1),
                 std::chrono::ceil<milliseconds>(until - Clock::now())));
  });
}

}  // namespace catena::gloo
