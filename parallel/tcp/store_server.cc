#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <list>
#include <thread>
#include <unordered_map>
#include <vector>

#include "parallel/tcp/store.h"
#include "runtime/base/error.h"
#include "runtime/base/log.h"

namespace catena::tcp {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kChunkBytes = 4096;
/// Every so often it is said that somebody was turned away.
constexpr std::int64_t kWarnings = 3;
/// How long nobody is accepted when the process has no descriptors left.
constexpr std::chrono::milliseconds kPause(100);

/// Someone who has connected.
struct Peer {
  Socket socket;
  Time since;
  std::string nonce;
  bool trusted = false, over = false;
  std::string answer;  ///< of the handshake, as far as it has come
  FrameReader reader;
  // While one of these is not empty, no question is read.
  std::string out;     ///< still to be sent
  std::string wanted;  ///< key that is waited for
};

}  // namespace

/// The server's one thread: everything but the constructor, the destructor and
/// what is atomic belongs to it.
class StoreServer::Service {
 public:
  Service(Socket listener, Secret secret, Limits limits)
      : listener_(std::move(listener)),
        wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
        secret_(std::move(secret)),
        limits_(limits) {
    if (!wake_.open()) {
      fail(ErrorKind::kIo, "[store] eventfd: {}", std::strerror(errno));
    }
    thread_ = std::thread([this] { serve(); });
  }
  ~Service() {
    stop_.store(true);
    const std::uint64_t one = 1;
    if (write(wake_.get(), &one, sizeof one) < 0) {
      log::warning("[store] eventfd: {}", std::strerror(errno));
    }
    thread_.join();
  }
  [[nodiscard]] const Socket& listener() const { return listener_; }
  [[nodiscard]] std::int64_t turned_away() const { return turned_away_; }

 private:
  void serve();
  void serve_once();
  void handle(Peer& peer, int events);
  [[nodiscard]] int next_timeout() const;
  void accept_all();
  void turn_away(Peer& peer, std::string_view why);

  void read(Peer& peer);
  void read_answer(Peer& peer);
  void answer(Peer& peer, const Frame& question);
  void set(Peer& peer, const Frame& question);
  void reply(Peer& peer, FrameKind kind, std::string_view value);
  static void flush(Peer& peer);

  const Socket listener_, wake_;
  const Secret secret_;
  const Limits limits_;
  std::list<Peer> peers_;
  std::size_t strangers_ = 0;
  Time pause_until_{};
  std::unordered_map<std::string, std::string> values_;
  std::size_t bytes_ = 0;
  std::atomic<std::int64_t> turned_away_ = 0;
  std::atomic<bool> stop_ = false;
  std::thread thread_;
};

void StoreServer::Service::serve() {
  while (!stop_) {
    try {
      serve_once();
    } catch (const std::exception& error) {
      log::warning("[store] {}", error.what());
      pause_until_ = Clock::now() + kPause;
    }
  }
}

void StoreServer::Service::serve_once() {
  const bool paused = Clock::now() < pause_until_;
  std::vector<pollfd> wanted = {
      {wake_.get(), POLLIN, 0},
      {listener_.get(), static_cast<short>(paused ? 0 : POLLIN), 0}};
  for (const Peer& peer : peers_) {
    const int events = !peer.out.empty()     ? POLLOUT
                       : peer.wanted.empty() ? POLLIN
                                             : POLLRDHUP;
    wanted.push_back({peer.socket.get(), static_cast<short>(events), 0});
  }
  if (poll(wanted.data(), wanted.size(), next_timeout()) < 0) return;
  auto ready = wanted.begin() + 2;
  for (Peer& peer : peers_) handle(peer, ready++->revents);
  strangers_ = static_cast<std::size_t>(std::count_if(
      peers_.begin(), peers_.end(),
      [](const Peer& peer) { return !peer.trusted && !peer.over; }));
  peers_.remove_if([](const Peer& peer) { return peer.over; });
  if ((wanted[1].revents & POLLIN) != 0) accept_all();
}

void StoreServer::Service::handle(Peer& peer, int events) {
  if ((events & POLLOUT) != 0) flush(peer);
  if ((events & POLLIN) != 0) {
    read(peer);
  } else if ((events & (POLLERR | POLLHUP | POLLRDHUP | POLLNVAL)) != 0) {
    peer.over = true;
  }
  if (!peer.trusted && Clock::now() - peer.since >= limits_.handshake) {
    turn_away(peer, "it did not prove that it knows the token");
  }
}

int StoreServer::Service::next_timeout() const {
  Time next = Clock::now() + std::chrono::hours(1);
  if (pause_until_ > Clock::now()) next = pause_until_;
  for (const Peer& peer : peers_) {
    if (!peer.trusted) next = std::min(next, peer.since + limits_.handshake);
  }
  return milliseconds_until(next);
}

void StoreServer::Service::accept_all() {
  for (;;) {
    Socket socket = accept_from(listener_);
    if (!socket.open()) {
      if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS ||
          errno == ENOMEM) {
        pause_until_ = Clock::now() + kPause;
      }
      return;
    }
    Peer peer;
    peer.socket = std::move(socket);
    peer.since = Clock::now();
    if (strangers_ >= limits_.strangers ||
        peers_.size() - strangers_ >= limits_.clients) {
      turn_away(peer, "too many are connected");
      continue;
    }
    peer.nonce = random_nonce();
    peer.out = std::string(kMagic) + peer.nonce;
    flush(peer);
    ++strangers_;
    peers_.push_back(std::move(peer));
  }
}

void StoreServer::Service::turn_away(Peer& peer, std::string_view why) {
  if (peer.over) return;
  peer.over = true;
  if (++turned_away_ <= kWarnings) {
    log::warning("[store] turned a connection away: {}", why);
  }
}

void StoreServer::Service::flush(Peer& peer) {
  const Moved moved = send_now(peer.socket, peer.out);
  peer.out.erase(0, moved.bytes);
  peer.over = peer.over || moved.over;
}

void StoreServer::Service::read(Peer& peer) {
  if (!peer.trusted) {
    read_answer(peer);
    return;
  }
  std::array<char, kChunkBytes> bytes;
  const Moved moved = receive_now(peer.socket, bytes.data(), bytes.size());
  peer.over = peer.over || moved.over;
  if (moved.bytes == 0) return;
  try {
    peer.reader.add({bytes.data(), moved.bytes});
    const std::optional<Frame> question = peer.reader.next();
    if (!question) return;
    if (peer.reader.held() > 0) {
      turn_away(peer, "it asks before it has its answer");
      return;
    }
    answer(peer, *question);
  } catch (const std::exception& error) {
    turn_away(peer, error.what());
  }
}

void StoreServer::Service::read_answer(Peer& peer) {
  std::array<char, kAnswerBytes> bytes;
  const Moved moved =
      receive_now(peer.socket, bytes.data(), kAnswerBytes - peer.answer.size());
  if (moved.over) turn_away(peer, "it left before it proved anything");
  peer.answer.append(bytes.data(), moved.bytes);
  if (peer.over || peer.answer.size() < kAnswerBytes) return;
  const std::string theirs = peer.answer.substr(0, kNonceBytes);
  if (!secret_.proves(peer.answer.substr(kNonceBytes), Role::kClient,
                      peer.nonce, theirs)) {
    turn_away(peer, "it does not know the token");
    return;
  }
  peer.trusted = true;
  peer.answer = {};
  peer.out += secret_.proof(Role::kServer, peer.nonce, theirs);
  flush(peer);
}

void StoreServer::Service::answer(Peer& peer, const Frame& question) {
  switch (question.kind) {
    case FrameKind::kSet:
      set(peer, question);
      return;
    case FrameKind::kGet: {
      const auto at = values_.find(question.key);
      if (at == values_.end()) {
        peer.wanted = question.key;
      } else {
        reply(peer, FrameKind::kValue, at->second);
      }
      return;
    }
    case FrameKind::kDone:
    case FrameKind::kValue:
    case FrameKind::kRefused:
      turn_away(peer, "it answers where it should ask");
      return;
  }
}

void StoreServer::Service::set(Peer& peer, const Frame& question) {
  const std::size_t size = question.key.size() + question.value.size();
  const auto at = values_.find(question.key);
  if (at != values_.end() && at->second != question.value) {
    reply(peer, FrameKind::kRefused, "the key has another value already");
    return;
  }
  if (at == values_.end() && bytes_ + size > limits_.bytes) {
    reply(peer, FrameKind::kRefused, "the store is full");
    return;
  }
  if (at == values_.end()) {
    values_.emplace(question.key, question.value);
    bytes_ += size;
  }
  reply(peer, FrameKind::kDone, "");
  for (Peer& other : peers_) {
    if (other.wanted != question.key) continue;
    other.wanted.clear();
    reply(other, FrameKind::kValue, question.value);
  }
}

void StoreServer::Service::reply(Peer& peer, FrameKind kind,
                                 std::string_view value) {
  peer.out += Frame{kind, "", std::string(value)}.bytes();
  flush(peer);
}

StoreServer::StoreServer(const std::string& address, std::uint16_t port,
                         Secret secret, Limits limits)
    : service_(std::make_unique<Service>(listen_at(address, port),
                                         std::move(secret), limits)) {}
StoreServer::StoreServer(Socket listener, Secret secret)
    : service_(std::make_unique<Service>(std::move(listener), std::move(secret),
                                         Limits{})) {}
StoreServer::~StoreServer() = default;

std::uint16_t StoreServer::port() const {
  return port_of(service_->listener());
}

std::int64_t StoreServer::turned_away() const {
  return service_->turned_away();
}

}  // namespace catena::tcp
