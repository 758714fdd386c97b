#include "parallel/gloo/mesh.h"

#include <gloo/transport/address.h>
#include <gloo/transport/pair.h>
#include <gloo/transport/tcp/device.h>

#include <algorithm>
#include <csignal>
#include <list>
#include <string>
#include <vector>

#include "parallel/tcp/handshake.h"
#include "parallel/tcp/socket.h"
#include "runtime/base/error.h"

namespace catena::gloo {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

/// Gloo writes to sockets in ways that raise SIGPIPE.
void ignore_broken_pipes() {
  struct sigaction now {};
  sigaction(SIGPIPE, nullptr, &now);
  if (now.sa_handler == SIG_DFL) std::signal(SIGPIPE, SIG_IGN);
}

std::shared_ptr<::gloo::transport::Device> make_device(
    const std::string& address) {
  // Gloo does not notice what cannot be resolved.
  (void)tcp::listen_at(address, 0);
  try {
    return ::gloo::transport::tcp::CreateDevice(
        ::gloo::transport::tcp::attr(address.c_str()));
  } catch (const std::exception& error) {
    fail(ErrorKind::kConfig, "[gloo] cannot use the address {}: {}", address,
         error.what());
  }
}

std::string key(const Options& options, int from, int to) {
  return fmt::format("{}gloo/{}-{}", options.prefix, from, to);
}

}  // namespace

Mesh::Mesh(int rank, int size, Store& store, const Options& options)
    : rank_(rank),
      size_(size),
      joins_(static_cast<std::size_t>(size), 1),
      expected_(static_cast<std::size_t>(size)),
      told_(static_cast<std::size_t>(size)) {
  CATENA_CHECK(size > 0 && rank >= 0 && rank < size, "[gloo] rank {} of {}",
               rank, size);
  joins_[static_cast<std::size_t>(rank)] = 0;
  for (const int peer : options.without) {
    joins_[static_cast<std::size_t>(peer)] = 0;
  }
  ignore_broken_pipes();
  device_ = make_device(options.address);
  for (auto& context : contexts_) {
    context = device_->createContext(rank, size);
    // Gloo waits five times as long for a connection; that is half the
    // deadline, and the store has the other half. The second of a pair comes
    // with the first.
    context->setTimeout(
        std::max(milliseconds(1),
                 std::chrono::ceil<milliseconds>(options.deadline / 10)));
  }
  for (int peer = 0; peer < size; ++peer) {
    if (!joins(peer)) continue;
    std::string& hello = expected_[static_cast<std::size_t>(peer)];
    hello = tcp::random_nonce();
    std::string said = hello;
    for (const auto& context : contexts_) {
      const std::vector<char> address =
          context->createPair(peer)->address().bytes();
      said.append(address.begin(), address.end());
    }
    store.set(key(options, rank, peer), said);
  }
  for (int peer = 0; peer < size; ++peer) {
    if (joins(peer)) meet(peer, store, options);
  }
}

Mesh::~Mesh() = default;

void Mesh::meet(int peer, Store& store, const Options& options) {
  const auto begin = Clock::now();
  const auto wait = options.deadline / 2;
  std::string said;
  try {
    said = store.get(key(options, peer, rank_), wait);
  } catch (const Error& error) {
    throw Error(error.kind(), fmt::format("[gloo] rank {} has not come: {}",
                                          peer, error.what()));
  }
  // All addresses are of one length.
  const std::size_t length =
      (std::max(said.size(), tcp::kNonceBytes) - tcp::kNonceBytes) /
      contexts_.size();
  if (length == 0) {
    fail(ErrorKind::kCommunication, "[gloo] rank {} left no address", peer);
  }
  told_[static_cast<std::size_t>(peer)] = said.substr(0, tcp::kNonceBytes);
  try {
    auto address = said.begin() + tcp::kNonceBytes;
    for (const auto& context : contexts_) {
      context->getPair(peer)->connect(
          std::vector<char>(address, address + length));
      address += length;
    }
  } catch (const std::exception& error) {
    fail(Clock::now() - begin >= wait ? ErrorKind::kTimeout
                                      : ErrorKind::kCommunication,
         "[gloo] no connection between rank {} and rank {}: {}", rank_, peer,
         error.what());
  }
}

void Mesh::greet() {
  struct Greeting {
    int peer;
    std::string said;
    std::unique_ptr<Buffer> in{}, out{};
  };
  const auto wait = contexts_.front()->getTimeout() * 5;
  std::list<Greeting> greetings;
  int peer = 0;
  try {
    for (peer = 0; peer < size_; ++peer) {
      for (const Way way : kWays) {
        if (!joins(peer)) continue;
        std::string& told = told_[static_cast<std::size_t>(peer)];
        Greeting& g = greetings.emplace_back(
            Greeting{peer, std::string(tcp::kNonceBytes, '\0')});
        g.out = buffer(way, peer, told.data(), told.size());
        g.in = buffer(way, peer, g.said.data(), g.said.size());
        g.out->send(peer, slot(Use::kHello, 0, 0));
        g.in->recv(peer, slot(Use::kHello, 0, 0));
      }
    }
    for (const Greeting& g : greetings) {
      peer = g.peer;
      (void)g.in->waitRecv(wait);
      (void)g.out->waitSend(wait);
    }
  } catch (const std::exception& error) {
    fail(ErrorKind::kCommunication, "[gloo] rank {} does not greet rank {}: {}",
         peer, rank_, error.what());
  }
  for (const Greeting& g : greetings) {
    if (g.said == expected_[static_cast<std::size_t>(g.peer)]) continue;
    fail(ErrorKind::kCommunication,
         "[gloo] what connected to rank {} as rank {} is another: is a "
         "stranger on this network?",
         rank_, g.peer);
  }
}

std::unique_ptr<Buffer> Mesh::buffer(Way way, int peer, void* data,
                                     std::size_t bytes) const {
  return context(way, peer).createUnboundBuffer(data, bytes);
}

}  // namespace catena::gloo
