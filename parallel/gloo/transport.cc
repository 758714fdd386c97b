#include "parallel/gloo/transport.h"

#include <algorithm>
#include <array>
#include <condition_variable>
#include <mutex>
#include <new>
#include <thread>
#include <utility>
#include <vector>

#include "parallel/complaint.h"
#include "parallel/gloo/last_word.h"
#include "parallel/gloo/line.h"
#include "parallel/tag.h"
#include "runtime/base/error.h"

namespace catena::gloo {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::microseconds;
using std::chrono::milliseconds;

constexpr std::size_t kAlignment = 64;
/// How often senders are answered while this rank computes.
constexpr microseconds kPulse(200);
/// How often it is looked whether connections are still there.
constexpr milliseconds kLook(1);
/// For how long the end waits for the others'.
constexpr milliseconds kLinger(2000);
/// For how long a rank that gave up waits until it has said so.
constexpr milliseconds kFarewell(500);

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
        mesh_(rank, size, store, options) {
    for (int peer = 0; peer < size; ++peer) {
      peers_.push_back(peer == rank ? nullptr
                                    : std::make_unique<Peer>(mesh_, peer));
    }
    pump_ = std::thread([this] { pump(); });
  }
  ~GlooTransport() override;

  [[nodiscard]] int rank() const override { return mesh_.rank(); }
  [[nodiscard]] int size() const override { return mesh_.size(); }
  [[nodiscard]] std::string_view description() const override {
    return description_;
  }

  void send(int to, int lane, const void* data, std::int64_t bytes,
            std::uint64_t tag, std::int64_t& open) override {
    post(to, lane, &Peer::out,
         {static_cast<std::byte*>(const_cast<void*>(data)), bytes, tag, &open});
  }
  void receive(int from, int lane, void* data, std::int64_t bytes,
               std::uint64_t tag, std::int64_t& open) override {
    post(from, lane, &Peer::in,
         {static_cast<std::byte*>(data), bytes, tag, &open});
  }
  void progress() override;
  void abandon(std::string_view why) noexcept override {
    const std::lock_guard lock(mutex_);
    fail_all(rank(), std::string(why), gave_up(rank(), std::string(why)));
  }

  [[nodiscard]] void* allocate(std::size_t bytes) override {
    return ::operator new(bytes, std::align_val_t(kAlignment));
  }
  void release(void* data, std::size_t) noexcept override {
    ::operator delete(data, std::align_val_t(kAlignment));
  }

 private:
  template <class LineType>
  void post(int to, int lane,
            std::array<std::unique_ptr<LineType>, kLanes> Peer::*lines,
            const Message& message);
  void throw_if_failed() const {
    if (failed_) fail(ErrorKind::kCommunication, "{}", failure_);
  }
  void pump();
  /// Everything that can be done now. Stores what is found wrong.
  void step();
  void advance(Peer& peer);
  void advance(Peer& peer, Incoming& line);
  void listen(Peer& peer);
  void lost(Peer& peer, const std::string& why);
  void check_ended(Peer& peer);
  /// A line with messages that are not through, or none.
  [[nodiscard]] static const Line* waiting(Peer& peer);
  [[nodiscard]] bool waits() const;
  /// `failure`: what the calls of this rank throw. The first counts.
  void fail_all(int origin, const std::string& why, std::string failure);
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
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stop_ = false, failed_ = false;
  bool idle_ = false;  ///< the pump sleeps until there are messages
  std::string failure_;
  Mesh mesh_;
  std::vector<std::unique_ptr<Peer>> peers_;
  Clock::time_point looked_ = Clock::now();
  std::thread pump_;
};

template <class LineType>
void GlooTransport::post(
    int to, int lane,
    std::array<std::unique_ptr<LineType>, kLanes> Peer::*lines,
    const Message& message) {
  CATENA_CHECK(
      to >= 0 && to < size() && to != rank() && lane >= 0 && lane < kLanes,
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
  line->add(message);
  advance(peer);
  throw_if_failed();
  if (std::exchange(idle_, false)) wake_.notify_one();
}

void GlooTransport::progress() {
  const std::lock_guard lock(mutex_);
  if (!failed_) step();
  throw_if_failed();
  for_peers(
      [](Peer& peer) { for_lines(peer, [](Line& line) { line.reap(); }); });
}

void GlooTransport::pump() {
  std::unique_lock lock(mutex_);
  while (!stop_) {
    idle_ = failed_ || !waits();
    if (idle_) {
      wake_.wait(lock);
      continue;
    }
    step();
    wake_.wait_for(lock, kPulse);
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
    return peer && waiting(*peer) != nullptr;
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
      peer.farewell.look_for_loss();
    } catch (const std::exception& error) {
      lost(peer, error.what());
    }
  });
}

void GlooTransport::advance(Peer& peer) {
  if (failed_) return;
  try {
    for (const auto& line : peer.out) {
      if (line && line->waits()) line->advance();
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

/// What Gloo says when a connection is lost may come before what the peer said
/// last is looked at.
void GlooTransport::lost(Peer& peer, const std::string& why) {
  if (failed_ || peer.ended) return;
  try {
    listen(peer);
  } catch (const std::exception&) {
    // An answer to a rank that is gone.
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
        peer.farewell.look_for_loss();
      } catch (const std::exception&) {
        peer.ended = true;
      }
      any = any || !peer.ended;
    });
    return any;
  };
  while (silent() && Clock::now() < until) std::this_thread::sleep_for(kPulse);
}

GlooTransport::~GlooTransport() {
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

}  // namespace

bool available() { return true; }

std::unique_ptr<Transport> connect(int rank, int size, Store& store,
                                   const Options& options) {
  return std::make_unique<GlooTransport>(rank, size, store, options);
}

}  // namespace catena::gloo
