#include "launcher/control/connection.h"

#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <exception>
#include <optional>
#include <utility>

#include "launcher/control/tls.h"
#include "runtime/base/error.h"

namespace catena::launcher::control {

namespace asio = boost::asio;
using asio::use_awaitable;
using asio::ip::tcp;
using boost::system::error_code;
using boost::system::system_error;

namespace {

constexpr int kBeatsPerLease = 10;
/// What waits to be sent to somebody who does not read.
constexpr std::size_t kMostQueuedBytes = std::size_t{16} << 20U;

Time now() { return std::chrono::steady_clock::now(); }

std::string plain_words(const system_error& error) {
  return is_end(error.code()) ? "it closed the connection"
                              : error.code().message();
}

}  // namespace

asio::awaitable<std::string> next_content(Stream& stream, FrameReader& reader) {
  std::array<char, 4096> part;
  for (;;) {
    std::optional<std::string> content = reader.next();
    if (content) co_return std::move(*content);
    const std::size_t count = co_await stream.read_some(asio::buffer(part));
    reader.add({part.data(), count});
  }
}

Connection::Connection(Stream stream, FrameReader reader, Secret send_key,
                       Secret receive_key)
    : stream_(std::move(stream)),
      reader_(std::move(reader)),
      sealer_(std::move(send_key)),
      opener_(std::move(receive_key)),
      beat_(stream_.socket().get_executor()),
      watch_(stream_.socket().get_executor()) {
  reader_.allow(kMaxSealedBytes);
  error_code ignored;
  stream_.socket().set_option(tcp::no_delay(true), ignored);
}

void Connection::start(Hooks hooks, Duration lease, std::string first) {
  hooks_ = std::move(hooks);
  lease_ = lease;
  heard_ = now();
  asio::co_spawn(
      stream_.socket().get_executor(),
      [self = shared_from_this()] { return self->read_all(); }, asio::detached);
  if (!first.empty()) push(std::move(first));
  send(Heartbeat{});
  beat();
  watch();
}

void Connection::send(const Message& message) {
  if (!closed_) push(sealer_.seal(write(message)));
}

void Connection::push(std::string bytes) {
  queued_bytes_ += bytes.size();
  queue_.push_back(std::move(bytes));
  if (queued_bytes_ > kMostQueuedBytes) return lose("it does not read");
  if (std::exchange(writing_, true)) return;
  asio::co_spawn(
      stream_.socket().get_executor(),
      [self = shared_from_this()] { return self->write_all(); },
      asio::detached);
}

void Connection::close() {
  closed_ = true;
  hooks_ = {};
  beat_.cancel();
  watch_.cancel();
  error_code ignored;
  stream_.socket().close(ignored);
}

std::string Connection::local_address() const {
  error_code ignored;
  return stream_.socket().local_endpoint(ignored).address().to_string();
}

std::string Connection::remote_address() const {
  error_code ignored;
  return stream_.socket().remote_endpoint(ignored).address().to_string();
}

asio::awaitable<void> Connection::read_all() {
  const auto self = shared_from_this();
  try {
    while (!closed_) {
      const std::string content = co_await next_content(stream_, reader_);
      if (closed_) co_return;
      Message message = read(opener_.open(content));
      heard_ = now();
      if (const auto began = std::exchange(hooks_.began, nullptr)) began();
      if (closed_) co_return;
      if (!std::holds_alternative<Heartbeat>(message)) {
        // A copy: it may close the connection.
        const auto heard = hooks_.heard;
        heard(std::move(message));
      }
    }
  } catch (const system_error& error) {
    lose(plain_words(error));
  } catch (const std::exception& error) {
    lose(error.what());
  }
}

asio::awaitable<void> Connection::write_all() {
  const auto self = shared_from_this();
  try {
    while (!closed_ && !queue_.empty()) {
      co_await stream_.write(asio::buffer(queue_.front()));
      queued_bytes_ -= queue_.front().size();
      queue_.pop_front();
    }
    writing_ = false;
  } catch (const system_error& error) {
    lose(plain_words(error));
  }
}

void Connection::beat() {
  beat_.expires_after(lease_ / kBeatsPerLease);
  beat_.async_wait([self = shared_from_this()](const error_code& error) {
    if (error || self->closed_) return;
    self->send(Heartbeat{});
    self->beat();
  });
}

void Connection::watch() {
  watch_.expires_at(heard_ + lease_);
  watch_.async_wait([self = shared_from_this()](const error_code& error) {
    if (error || self->closed_) return;
    if (now() < self->heard_ + self->lease_) return self->watch();
    const std::chrono::duration<double> lease = self->lease_;
    self->lose(fmt::format("nothing was heard of it for {:.3g} s (--lease)",
                           lease.count()));
  });
}

void Connection::lose(const std::string& why) {
  if (closed_) return;
  const auto lost = hooks_.lost;
  close();
  if (lost)
    asio::post(stream_.socket().get_executor(), [lost, why] { lost(why); });
}

namespace {

[[noreturn]] void refused(const AgentHandshake& handshake, Refusal refusal) {
  if (refusal == Refusal::kVersion) {
    fail(ErrorKind::kUsage,
         "the launcher speaks version {} of the protocol and this agent "
         "version {}: install the same catena on both",
         handshake.version_seen(), kProtocolVersion);
  }
  fail(ErrorKind::kUsage, "the launcher is refused: {}", name_of(refusal));
}

/// What is to be done about the end of a connection that was reached; "": try
/// again.
std::string refusal_of(const error_code& error) {
  const std::string reason = end_reason(error);
  if (reason == "certificate") {
    return "the launcher's certificate is not of this job's secret: this agent "
           "has another secret, or another one is in its place";
  }
  if (reason == "tls") {
    return fmt::format(
        "no TLS 1.3 with the launcher ({}): this agent has another secret, "
        "another one is in its place, or one of the two has TLS and the other "
        "has not; start both by the same catena launch",
        error.message());
  }
  if (!is_end(error)) return "";
  return "the launcher closed the connection instead of saying who it is: this "
         "agent has another secret, another one is in its place, or one of the "
         "two has TLS and the other has not";
}

asio::awaitable<std::shared_ptr<Connection>> greet(Stream& stream,
                                                   AgentHandshake& handshake) {
  FrameReader reader(kMaxGreetingBytes);
  std::string said = frame(handshake.hello(), kMaxGreetingBytes);
  for (;;) {
    co_await stream.write(asio::buffer(said));
    const std::string content = co_await next_content(stream, reader);
    HandshakeStep step = handshake.receive(content);
    if (step.refusal) refused(handshake, *step.refusal);
    if (step.keys) {
      co_return std::make_shared<Connection>(
          std::move(stream), std::move(reader), step.keys->to_launcher,
          step.keys->to_agent);
    }
    said = frame(step.send, kMaxGreetingBytes);
  }
}

}  // namespace

asio::awaitable<std::shared_ptr<Connection>> connect(tcp::endpoint launcher,
                                                     Secret secret,
                                                     Identity identity,
                                                     bool tls) {
  const auto executor = co_await asio::this_coro::executor;
  std::optional<asio::ssl::context> context;
  if (tls) context.emplace(tls_context(secret));
  // Theirs, too: the deadline may have passed, and not been told of, when this
  // is over.
  const auto stream = std::make_shared<Stream>(tcp::socket(executor),
                                               tls ? &*context : nullptr);
  const auto late = std::make_shared<bool>(false);
  asio::steady_timer deadline(executor, kHandshakeTime);
  deadline.async_wait([stream, late](const error_code& error) {
    if (error) return;
    *late = true;
    error_code ignored;
    stream->socket().close(ignored);
  });
  bool reached = false;
  std::string why;
  try {
    co_await stream->socket().async_connect(launcher, use_awaitable);
    reached = true;
    co_await stream->shake_hands(asio::ssl::stream_base::client);
    AgentHandshake handshake(secret, identity, random_nonce());
    auto connection = co_await greet(*stream, handshake);
    deadline.cancel();
    co_return connection;
  } catch (const system_error& error) {
    deadline.cancel();
    if (*late) throw system_error(asio::error::timed_out);
    if (reached) why = refusal_of(error.code());
    if (why.empty()) throw;
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kData) throw;
    why = fmt::format(
        "what answers in the launcher's place does not speak as it does ({}): "
        "it is another program, or has TLS where this agent has not; start "
        "both by the same catena launch",
        error.what());
  }
  fail(ErrorKind::kUsage, "{}", why);
}

}  // namespace catena::launcher::control
