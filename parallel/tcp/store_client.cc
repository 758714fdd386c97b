#include "parallel/tcp/store.h"
#include "runtime/base/error.h"

namespace catena::tcp {
namespace {

constexpr std::size_t kChunkBytes = 4096;

Time after(StoreClient::Duration duration) {
  // Bounded, so that "for ever" does not overflow the clock.
  constexpr StoreClient::Duration kYear(365 * 24 * 3600.0);
  return std::chrono::steady_clock::now() +
         std::chrono::ceil<std::chrono::steady_clock::duration>(
             std::min(duration, kYear));
}

}  // namespace

StoreClient::StoreClient(std::string address, std::uint16_t port, Secret secret,
                         Duration patience)
    : address_(std::move(address)),
      port_(port),
      secret_(std::move(secret)),
      patience_(patience) {
  connect(after(patience_));
}

std::string StoreClient::receive_exactly(std::size_t count, Time deadline) {
  std::string bytes;
  while (bytes.size() < count) {
    const std::string more =
        receive_some(socket_, count - bytes.size(), deadline);
    if (more.empty()) break;
    bytes += more;
  }
  return bytes;
}

void StoreClient::connect(Time deadline) {
  reader_ = FrameReader();
  socket_ = connect_to(address_, port_, deadline);
  const std::string greeting = receive_exactly(kGreetingBytes, deadline);
  if (greeting.size() < kGreetingBytes || !greeting.starts_with(kMagic)) {
    fail(ErrorKind::kCommunication,
         "[store] what listens at {} port {} is no store, or is full", address_,
         port_);
  }
  const std::string theirs = greeting.substr(kMagic.size());
  const std::string mine = random_nonce();
  send_all(socket_, mine + secret_.proof(Role::kClient, theirs, mine),
           deadline);
  const std::string proof = receive_exactly(kProofBytes, deadline);
  if (!secret_.proves(proof, Role::kServer, theirs, mine)) {
    fail(ErrorKind::kConfig,
         "[store] the store at {} port {} belongs to another run: its token is "
         "not this one's",
         address_, port_);
  }
}

Frame StoreClient::ask(const Frame& question, Time deadline) {
  send_all(socket_, question.bytes(), deadline);
  for (;;) {
    if (std::optional<Frame> answer = reader_.next()) {
      if (answer->kind == FrameKind::kRefused) {
        fail(ErrorKind::kCommunication, "[store] refused: {}", answer->value);
      }
      return *answer;
    }
    const std::string bytes = receive_some(socket_, kChunkBytes, deadline);
    if (bytes.empty()) {
      fail(ErrorKind::kCommunication,
           "[store] the store at {} port {} has ended: look at rank 0",
           address_, port_);
    }
    reader_.add(bytes);
  }
}

void StoreClient::set(std::string_view key, std::string_view value) {
  const std::lock_guard lock(mutex_);
  const Time deadline = after(patience_);
  try {
    if (!socket_.open()) connect(deadline);
    const Frame frame{FrameKind::kSet, std::string(key), std::string(value)};
    if (ask(frame, deadline).kind != FrameKind::kDone) {
      fail(ErrorKind::kCommunication, "[store] an answer to another question");
    }
  } catch (const Error& error) {
    socket_ = Socket();
    throw Error(error.kind(),
                fmt::format("{} (to set \"{}\")", error.what(), key));
  }
}

std::string StoreClient::get(std::string_view key, Duration deadline) {
  const std::lock_guard lock(mutex_);
  const Time until = after(deadline);
  bool connected = false;
  try {
    if (!socket_.open()) connect(until);
    connected = true;
    Frame answer = ask({FrameKind::kGet, std::string(key), ""}, until);
    if (answer.kind != FrameKind::kValue) {
      fail(ErrorKind::kCommunication, "[store] an answer to another question");
    }
    return std::move(answer.value);
  } catch (const Error& error) {
    socket_ = Socket();
    if (error.kind() == ErrorKind::kTimeout && connected) {
      fail(ErrorKind::kTimeout,
           "[store] nobody has set \"{}\" within {:.3g} s, or rank 0 hangs",
           key, deadline.count());
    }
    throw Error(error.kind(),
                fmt::format("{} (to get \"{}\")", error.what(), key));
  }
}

std::string StoreClient::own_address() {
  const std::lock_guard lock(mutex_);
  if (!socket_.open()) connect(after(patience_));
  return address_of(socket_);
}

}  // namespace catena::tcp
