#include "launcher/preflight/link_probe.h"

#include <openssl/crypto.h>

#include <algorithm>
#include <array>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <chrono>
#include <list>
#include <optional>
#include <vector>

#include "runtime/base/error.h"

namespace catena::launcher {
namespace {

namespace asio = boost::asio;
using asio::use_awaitable;
using asio::ip::tcp;
using boost::system::error_code;
using boost::system::system_error;
using Clock = std::chrono::steady_clock;

constexpr std::size_t kPieceBytes = std::size_t{256} << 10U;
constexpr std::uint64_t kFirstBytes = std::uint64_t{256} << 10U,
                        kMostBytes = std::uint64_t{64} << 20U;
constexpr int kPings = 20;
constexpr double kLongEnough = 0.05;  // seconds
constexpr std::chrono::seconds kClientTime(10), kServerTime(60);
constexpr std::size_t kMostClients = 8;
constexpr std::chrono::milliseconds kBreath(100);

/// Of a parcel; least significant first.
using Header = std::array<unsigned char, 8>;

Header header_of(std::uint64_t bytes) {
  Header header{};
  for (std::size_t i = 0; i < header.size(); ++i) {
    header[i] = static_cast<unsigned char>(bytes >> (8 * i));
  }
  return header;
}

std::uint64_t bytes_of(const Header& header) {
  std::uint64_t bytes = 0;
  for (std::size_t i = 0; i < header.size(); ++i) {
    bytes |= std::uint64_t{header[i]} << (8 * i);
  }
  return bytes;
}

}  // namespace

class LinkServer::Service : public std::enable_shared_from_this<Service> {
 public:
  Service(asio::io_context& context, const std::string& address,
          std::string ticket)
      : context_(context), acceptor_(context), ticket_(std::move(ticket)) {
    try {
      const tcp::endpoint at(asio::ip::make_address(address), 0);
      acceptor_.open(at.protocol());
      acceptor_.bind(at);
      acceptor_.listen();
    } catch (const system_error& error) {
      fail(ErrorKind::kIo, "cannot listen at {}: {}", address,
           error.code().message());
    }
  }

  void start() {
    asio::co_spawn(
        context_, [self = shared_from_this()] { return self->accept_all(); },
        asio::detached);
  }
  void stop() {
    error_code ignored;
    acceptor_.close(ignored);
    for (const auto& client : clients_) client->end();
  }
  [[nodiscard]] std::uint16_t port() const {
    return acceptor_.local_endpoint().port();
  }

 private:
  struct Client {
    explicit Client(tcp::socket accepted)
        : socket(std::move(accepted)),
          deadline(socket.get_executor(), kServerTime) {}
    void end() {
      error_code ignored;
      socket.close(ignored);
      deadline.cancel();
    }
    tcp::socket socket;
    asio::steady_timer deadline;
    bool known = false;  ///< it has shown the ticket
  };

  asio::awaitable<void> accept_all() {
    const auto self = shared_from_this();
    while (acceptor_.is_open()) {
      error_code error;
      tcp::socket socket = co_await acceptor_.async_accept(
          asio::redirect_error(use_awaitable, error));
      if (!acceptor_.is_open()) co_return;
      if (error) {
        // Such as no descriptor left: there will be one again.
        asio::steady_timer breath(context_, kBreath);
        co_await breath.async_wait(use_awaitable);
        continue;
      }
      if (clients_.size() >= kMostClients && !make_room()) continue;
      const auto client = std::make_shared<Client>(std::move(socket));
      clients_.push_back(client);
      client->deadline.async_wait([client](const error_code& late) {
        if (!late) client->end();
      });
      asio::co_spawn(
          context_, [self, client] { return self->serve(client); },
          asio::detached);
    }
  }

  bool make_room() {
    const auto at =
        std::find_if(clients_.begin(), clients_.end(),
                     [](const auto& client) { return !client->known; });
    if (at == clients_.end()) return false;
    (*at)->end();
    clients_.erase(at);
    return true;
  }

  asio::awaitable<void> serve(std::shared_ptr<Client> client) {
    const auto self = shared_from_this();
    tcp::socket& socket = client->socket;
    try {
      std::string said(ticket_.size(), '\0');
      co_await asio::async_read(socket, asio::buffer(said), use_awaitable);
      if (::CRYPTO_memcmp(said.data(), ticket_.data(), said.size()) == 0) {
        client->known = true;
        socket.set_option(tcp::no_delay(true));
        for (;;) co_await take_parcel(socket);
      }
    } catch (const system_error&) {
      // It has what it wanted, or never comes to an end.
    }
    client->end();
    clients_.remove(client);
  }

  asio::awaitable<void> take_parcel(tcp::socket& socket) {
    Header header{};
    co_await asio::async_read(socket, asio::buffer(header), use_awaitable);
    std::uint64_t left = bytes_of(header);
    if (left > kMostBytes) throw system_error(asio::error::message_size);
    std::vector<char> piece(std::min<std::uint64_t>(left, kPieceBytes));
    while (left > 0) {
      left -= co_await socket.async_read_some(
          asio::buffer(piece.data(),
                       std::min<std::uint64_t>(left, piece.size())),
          use_awaitable);
    }
    const std::array<char, 1> answer = {'.'};
    co_await asio::async_write(socket, asio::buffer(answer), use_awaitable);
  }

  asio::io_context& context_;
  tcp::acceptor acceptor_;
  const std::string ticket_;
  std::list<std::shared_ptr<Client>> clients_;
};

LinkServer::LinkServer(asio::io_context& context, const std::string& address,
                       std::string ticket)
    : service_(std::make_shared<Service>(context, address, std::move(ticket))) {
  service_->start();
}
LinkServer::~LinkServer() { service_->stop(); }
std::uint16_t LinkServer::port() const { return service_->port(); }

namespace {

class LinkClient {
 public:
  explicit LinkClient(const ProbeLink& probe)
      : probe_(probe), socket_(context_) {}

  LinkFacts run() {
    asio::co_spawn(context_, measure(), [this](std::exception_ptr thrown) {
      thrown_ = std::move(thrown);
      done_ = true;
    });
    context_.run_for(kClientTime);
    try {
      if (thrown_) std::rethrow_exception(thrown_);
    } catch (const system_error& error) {
      give_up(error.code().message());
    }
    if (!done_) give_up(fmt::format("not in {} s", kClientTime.count()));
    return facts_;
  }

 private:
  [[noreturn]] void give_up(const std::string& why) const {
    fail(ErrorKind::kCommunication, "{} at {}:{}: {}",
         reached_ ? "the other one stops answering" : "cannot be reached",
         probe_.address, probe_.port, why);
  }

  asio::awaitable<void> measure() {
    co_await socket_.async_connect(
        {asio::ip::make_address(probe_.address), probe_.port}, use_awaitable);
    reached_ = true;
    socket_.set_option(tcp::no_delay(true));
    co_await asio::async_write(socket_, asio::buffer(probe_.ticket),
                               use_awaitable);
    for (int i = 0; i < kPings; ++i) {
      const double taken = co_await send_parcel(0);
      if (i == 0 || taken < facts_.latency_seconds) {
        facts_.latency_seconds = taken;
      }
    }
    double taken = 0;
    for (std::uint64_t bytes = kFirstBytes;
         bytes <= kMostBytes && taken < kLongEnough; bytes *= 4) {
      taken = co_await send_parcel(bytes);
      facts_.bytes_per_second = static_cast<double>(bytes) / taken;
    }
    error_code ignored;
    socket_.close(ignored);
  }

  /// Seconds until it was answered.
  asio::awaitable<double> send_parcel(std::uint64_t bytes) {
    const auto begin = Clock::now();
    const Header header = header_of(bytes);
    co_await asio::async_write(socket_, asio::buffer(header), use_awaitable);
    for (std::uint64_t left = bytes; left > 0;) {
      const std::uint64_t part = std::min<std::uint64_t>(left, piece_.size());
      co_await asio::async_write(socket_, asio::buffer(piece_.data(), part),
                                 use_awaitable);
      left -= part;
    }
    std::array<char, 1> answer{};
    co_await asio::async_read(socket_, asio::buffer(answer), use_awaitable);
    const std::chrono::duration<double> taken = Clock::now() - begin;
    co_return taken.count();
  }

  const ProbeLink probe_;
  asio::io_context context_;
  tcp::socket socket_;
  const std::vector<char> piece_ = std::vector<char>(kPieceBytes, 'x');
  LinkFacts facts_;
  bool reached_ = false, done_ = false;
  std::exception_ptr thrown_;
};

}  // namespace

LinkFacts probe_link(const ProbeLink& probe) { return LinkClient(probe).run(); }

}  // namespace catena::launcher
