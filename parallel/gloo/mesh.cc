#include "parallel/gloo/mesh.h"

#include <gloo/transport/address.h>
#include <gloo/transport/pair.h>
#include <gloo/transport/tcp/device.h>

#include <algorithm>
#include <csignal>
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
      expected_(static_cast<std::size_t>(size)),
      told_(static_cast<std::size_t>(size)) {
  CATENA_CHECK(size > 0 && rank >= 0 && rank < size, "[gloo] rank {} of {}",
               rank, size);
  ignore_broken_pipes();
  device_ = make_device(options.address);
  context_ = device_->createContext(rank, size);
  // Gloo waits five times as long for a connection; that is half the deadline,
  // and the store has the other half.
  context_->setTimeout(std::max(
      milliseconds(1), std::chrono::ceil<milliseconds>(options.deadline / 10)));
  for (int peer = 0; peer < size; ++peer) {
    if (peer == rank) continue;
    const std::vector<char> address =
        context_->createPair(peer)->address().bytes();
    std::string& hello = expected_[static_cast<std::size_t>(peer)];
    hello = tcp::random_nonce();
    store.set(key(options, rank, peer),
              hello + std::string(address.begin(), address.end()));
  }
  for (int peer = 0; peer < size; ++peer) {
    if (peer != rank) meet(peer, store, options);
  }
  greet_all();
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
  if (said.size() <= tcp::kNonceBytes) {
    fail(ErrorKind::kCommunication, "[gloo] rank {} left no address", peer);
  }
  told_[static_cast<std::size_t>(peer)] = said.substr(0, tcp::kNonceBytes);
  try {
    context_->getPair(peer)->connect(
        std::vector<char>(said.begin() + tcp::kNonceBytes, said.end()));
  } catch (const std::exception& error) {
    fail(Clock::now() - begin >= wait ? ErrorKind::kTimeout
                                      : ErrorKind::kCommunication,
         "[gloo] no connection between rank {} and rank {}: {}", rank_, peer,
         error.what());
  }
}

void Mesh::greet_all() {
  const auto wait = context_->getTimeout() * 5;
  std::vector<std::string> said(told_.size(),
                                std::string(tcp::kNonceBytes, '\0'));
  std::vector<std::unique_ptr<Buffer>> in, out;
  int peer = 0;
  try {
    for (peer = 0; peer < size_; ++peer) {
      const auto p = static_cast<std::size_t>(peer);
      out.push_back(buffer(told_[p].data(), told_[p].size()));
      in.push_back(buffer(said[p].data(), said[p].size()));
      if (peer == rank_) continue;
      out.back()->send(peer, slot(Use::kHello, 0, 0));
      in.back()->recv(peer, slot(Use::kHello, 0, 0));
    }
    for (peer = 0; peer < size_; ++peer) {
      if (peer == rank_) continue;
      (void)in[static_cast<std::size_t>(peer)]->waitRecv(wait);
      (void)out[static_cast<std::size_t>(peer)]->waitSend(wait);
    }
  } catch (const std::exception& error) {
    fail(ErrorKind::kCommunication, "[gloo] rank {} does not greet rank {}: {}",
         peer, rank_, error.what());
  }
  for (peer = 0; peer < size_; ++peer) {
    const auto p = static_cast<std::size_t>(peer);
    if (peer == rank_ || said[p] == expected_[p]) continue;
    fail(ErrorKind::kCommunication,
         "[gloo] what connected to rank {} as rank {} is another: is a "
         "stranger on this network?",
         rank_, peer);
  }
}

std::unique_ptr<Buffer> Mesh::buffer(void* data, std::size_t bytes) const {
  return context_->createUnboundBuffer(data, bytes);
}

}  // namespace catena::gloo
