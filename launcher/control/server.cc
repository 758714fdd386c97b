#include "launcher/control/server.h"

#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <list>
#include <optional>
#include <utility>

#include "launcher/control/connection.h"
#include "launcher/control/handshake.h"
#include "launcher/control/stream.h"
#include "launcher/control/tls.h"
#include "runtime/base/error.h"
#include "runtime/base/log.h"

namespace catena::launcher::control {

namespace asio = boost::asio;
using asio::use_awaitable;
using asio::ip::tcp;
using boost::system::error_code;
using boost::system::system_error;

namespace {

constexpr std::chrono::milliseconds kBreath(100);

constexpr std::array kRefusals = {Refusal::kMalformed, Refusal::kVersion,
                                  Refusal::kJob,       Refusal::kAgent,
                                  Refusal::kNonce,     Refusal::kProof};

/// A connection of somebody who has not proved who he is.
struct Pending {
  Pending(Stream accepted, asio::ip::address from)
      : stream(std::move(accepted)),
        address(std::move(from)),
        deadline(stream.socket().get_executor(), kHandshakeTime) {}
  Stream stream;
  asio::ip::address address;
  asio::steady_timer deadline;
  const char* closed_for = nullptr;  ///< by us

  /// Reset, and not closed: nobody has judged it, and an agent may try again.
  void end(const char* why) {
    closed_for = why;
    error_code ignored;
    stream.socket().set_option(asio::socket_base::linger(true, 0), ignored);
    stream.socket().close(ignored);
  }
};
using PendingList = std::list<std::shared_ptr<Pending>>;

/// An agent that may connect or has done so.
struct Place {
  int incarnation = 0;
  std::shared_ptr<Connection> connection = {};
  bool began = false;  ///< the agent has not given it up, nor ended before
};

}  // namespace

class Server::Service : public std::enable_shared_from_this<Server::Service> {
 public:
  Service(asio::io_context& context, Secret secret, Options options,
          Hooks hooks)
      : context_(context),
        secret_(std::move(secret)),
        options_(std::move(options)),
        hooks_(std::move(hooks)),
        acceptor_(context),
        breath_(context) {
    for (const Refusal refusal : kRefusals) rejected_[name_of(refusal)] = 0;
    if (options_.tls) tls_.emplace(tls_context(secret_));
    try {
      const tcp::endpoint at(asio::ip::make_address(options_.address), 0);
      acceptor_.open(at.protocol());
      acceptor_.bind(at);
      acceptor_.listen();
    } catch (const system_error& error) {
      fail(ErrorKind::kIo, "cannot listen at {} for agents: {}",
           options_.address, error.code().message());
    }
  }

  void start() {
    asio::co_spawn(
        context_, [self = shared_from_this()] { return self->accept_all(); },
        asio::detached);
  }

  void stop() {
    closed_ = true;
    error_code ignored;
    acceptor_.close(ignored);
    breath_.cancel();
    for (const auto& pending : pending_) pending->end("closed");
    for (auto& entry : places_) disconnect(entry.second);
  }

  [[nodiscard]] std::uint16_t port() const {
    return acceptor_.local_endpoint().port();
  }
  void expect(int agent, int incarnation) {
    Place& place = places_[agent];
    disconnect(place);
    place.incarnation = incarnation;
  }
  void send(int agent, const Message& message) {
    const auto at = places_.find(agent);
    if (at != places_.end() && at->second.connection) {
      at->second.connection->send(message);
    }
  }
  [[nodiscard]] const std::map<std::string, std::int64_t>& rejected() const {
    return rejected_;
  }

 private:
  static void disconnect(Place& place) {
    if (place.connection) place.connection->close();
    place.connection.reset();
    place.began = false;
  }

  void reject(const std::string& reason, const asio::ip::address& address) {
    if (closed_) return;
    // One line a reason: whoever floods shall not fill the disk.
    if (rejected_[reason]++ == 0) {
      log::warning("a connection from {} was turned away: {}",
                   address.to_string(), reason);
    }
  }

  [[nodiscard]] std::optional<int> expected(int agent) const {
    const auto at = places_.find(agent);
    if (at == places_.end() || at->second.connection) return std::nullopt;
    return at->second.incarnation;
  }

  asio::awaitable<void> accept_all() {
    const auto self = shared_from_this();
    while (!closed_) {
      error_code error;
      tcp::socket socket = co_await acceptor_.async_accept(
          asio::redirect_error(use_awaitable, error));
      if (closed_) co_return;
      if (error) {
        // Such as no descriptor left: there will be one again.
        breath_.expires_after(kBreath);
        co_await breath_.async_wait(asio::redirect_error(use_awaitable, error));
        continue;
      }
      const auto from = socket.remote_endpoint(error);
      if (error) continue;
      admit(std::make_shared<Pending>(
          Stream(std::move(socket), tls_ ? &*tls_ : nullptr), from.address()));
    }
  }

  void admit(const std::shared_ptr<Pending>& pending) {
    make_room(pending->address);
    pending_.push_back(pending);
    pending->deadline.async_wait([pending](const error_code& error) {
      if (!error) pending->end("deadline");
    });
    asio::co_spawn(
        context_,
        [self = shared_from_this(), pending] { return self->greet(pending); },
        asio::detached);
  }

  /// The oldest goes: an agent needs milliseconds, a stranger waits.
  void make_room(const asio::ip::address& address) {
    std::size_t of_address = 0;
    PendingList::iterator oldest = pending_.end();
    for (auto at = pending_.begin(); at != pending_.end(); ++at) {
      if ((*at)->address != address) continue;
      if (of_address++ == 0) oldest = at;
    }
    if (of_address < kMostOfOneAddress) {
      if (pending_.size() < kMostPending) return;
      oldest = pending_.begin();
    }
    (*oldest)->end("crowded");
    pending_.erase(oldest);
  }

  asio::awaitable<void> greet(std::shared_ptr<Pending> pending) {
    const auto self = shared_from_this();
    std::string refusal = "closed";
    try {
      refusal = co_await shake_hands(*pending);
    } catch (const system_error& error) {
      refusal = pending->closed_for != nullptr ? pending->closed_for
                                               : end_reason(error.code());
    } catch (const Error&) {
      refusal = "protocol";
    }
    pending->deadline.cancel();
    pending_.remove(pending);
    if (!refusal.empty()) {
      reject(refusal, pending->address);
      error_code ignored;
      pending->stream.socket().close(ignored);
    }
  }

  /// Returns why it was refused; empty: it has its place.
  asio::awaitable<std::string> shake_hands(Pending& pending) {
    LauncherHandshake handshake(
        secret_, options_.job, [this](int agent) { return expected(agent); },
        random_nonce());
    co_await pending.stream.shake_hands(asio::ssl::stream_base::server);
    FrameReader reader(kMaxGreetingBytes);
    for (;;) {
      const std::string content = co_await next_content(pending.stream, reader);
      HandshakeStep step = handshake.receive(content);
      // Taken before the answer is on its way: another one is too late.
      if (step.keys) {
        // Ended, while what it had sent was on its way here.
        if (pending.closed_for != nullptr) co_return pending.closed_for;
        seat(pending, std::move(reader), handshake.identity(), step);
        co_return "";
      }
      if (!step.send.empty()) {
        const std::string answer = frame(step.send, kMaxGreetingBytes);
        co_await pending.stream.write(asio::buffer(answer));
      }
      if (step.refusal) co_return name_of(*step.refusal);
    }
  }

  void seat(Pending& pending, FrameReader reader, const Identity& identity,
            const HandshakeStep& step) {
    const int agent = identity.agent;
    const auto connection = std::make_shared<Connection>(
        std::move(pending.stream), std::move(reader), step.keys->to_agent,
        step.keys->to_launcher);
    places_[agent].connection = connection;
    const auto self = shared_from_this();
    connection->start(
        {.heard = [self, who = identity](
                      const Message& message) { self->hear(who, message); },
         .lost =
             [self, agent, at = std::weak_ptr(connection)](
                 const std::string& why) { self->lose(agent, at.lock(), why); },
         .began =
             [self, agent] {
               self->places_[agent].began = true;
               self->hooks_.connected(agent);
             }},
        options_.lease, frame(step.send, kMaxGreetingBytes));
  }

  void lose(int agent, const std::shared_ptr<Connection>& connection,
            const std::string& why) {
    Place& place = places_[agent];
    // It may have been given up, or have another one by now.
    if (closed_ || !connection || place.connection != connection) return;
    place.connection.reset();
    // It gave up before it heard that it has its place, and tries again.
    if (!std::exchange(place.began, false)) return;
    hooks_.lost(agent, why);
  }

  void hear(const Identity& who, const Message& message) {
    if (const auto* said = std::get_if<Report>(&message)) {
      Report report = *said;
      report.agent = who.agent;
      report.incarnation = static_cast<std::uint64_t>(who.incarnation);
      hooks_.reported(report);
    } else if (const auto* probed = std::get_if<Probed>(&message)) {
      if (hooks_.probed) hooks_.probed(who.agent, *probed);
    }
  }

  asio::io_context& context_;
  const Secret secret_;
  const Options options_;
  const Hooks hooks_;
  std::optional<asio::ssl::context> tls_;
  tcp::acceptor acceptor_;
  asio::steady_timer breath_;
  bool closed_ = false;
  PendingList pending_;
  std::map<int, Place> places_;
  std::map<std::string, std::int64_t> rejected_ = {
      {"deadline", 0}, {"crowded", 0},     {"closed", 0},
      {"protocol", 0}, {"certificate", 0}, {"tls", 0}};
};

Server::Server(asio::io_context& context, Secret secret, Options options,
               Hooks hooks)
    : service_(std::make_shared<Service>(
          context, std::move(secret), std::move(options), std::move(hooks))) {
  service_->start();
}
Server::~Server() { close(); }

void Server::close() { service_->stop(); }

std::uint16_t Server::port() const { return service_->port(); }
void Server::expect(int agent, int incarnation) {
  service_->expect(agent, incarnation);
}
void Server::send(int agent, const Message& message) {
  service_->send(agent, message);
}
const std::map<std::string, std::int64_t>& Server::rejected() const {
  return service_->rejected();
}

}  // namespace catena::launcher::control
