// Who is let in by TLS, and what can be read on the wire, with those in between
// who hear it or end it.

#include "launcher/control/tls.h"

#include <gmock/gmock.h>
#include <openssl/ssl.h>

#include <array>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "launcher/control/frame.h"
#include "runtime/base/error.h"
#include "tests/launcher/control/server_fixture.h"

namespace catena::launcher::control {
namespace {

namespace asio = boost::asio;
namespace ssl = boost::asio::ssl;
using asio::use_awaitable;
using asio::ip::tcp;
using boost::system::error_code;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* kHost = "a host's name";

/// Of somebody who has another secret and takes anybody for whom he waits.
ssl::context others_context() {
  ssl::context context = tls_context(secret('x'));
  context.set_verify_mode(ssl::verify_none);
  return context;
}

/// Of somebody who knows the secret, and no newer version than 1.2.
ssl::context older_context() {
  ssl::context context = tls_context(secret());
  SSL_CTX_set_min_proto_version(context.native_handle(), TLS1_2_VERSION);
  SSL_CTX_set_max_proto_version(context.native_handle(), TLS1_2_VERSION);
  return context;
}

tcp::acceptor any_port(asio::io_context& context) {
  return {context, tcp::endpoint(asio::ip::address_v4::loopback(), 0)};
}

/// Passes on what comes, and keeps it.
template <class Wire>
asio::awaitable<void> pass_on(Wire& from, Wire& to, std::string& seen) {
  std::array<char, 4096> part;
  error_code error;
  for (;;) {
    const std::size_t count = co_await from.async_read_some(
        asio::buffer(part), asio::redirect_error(use_awaitable, error));
    if (error) break;
    seen.append(part.data(), count);
    co_await asio::async_write(to, asio::buffer(part.data(), count),
                               asio::redirect_error(use_awaitable, error));
    if (error) break;
  }
  from.lowest_layer().close(error);
  to.lowest_layer().close(error);
}

/// Between an agent and its launcher; once.
template <class Wire>
struct Between {
  Wire agent, launcher;
  std::string from_agent = {}, from_launcher = {};

  void begin(asio::io_context& context) {
    asio::co_spawn(context, pass_on(agent, launcher, from_agent),
                   asio::detached);
    asio::co_spawn(context, pass_on(launcher, agent, from_launcher),
                   asio::detached);
  }
};

class WireTest : public ServerFixture {
 protected:
  explicit WireTest(bool tls) : ServerFixture(tls) {}
  ~WireTest() override {
    // Whoever is between goes by himself.
    server_.reset();
    error_code ignored;
    between_.agent.close(ignored);
    between_.launcher.close(ignored);
    run_until([] { return false; }, std::chrono::milliseconds(20));
  }

  /// An agent comes by way of who hears all, and says who it is.
  void be_heard() {
    tcp::acceptor acceptor = any_port(context_);
    meeting_ = acceptor.local_endpoint();
    acceptor.async_accept([&](const error_code& error, tcp::socket socket) {
      ASSERT_FALSE(error);
      between_.agent = std::move(socket);
      between_.launcher.connect(endpoint());
      between_.begin(context_);
    });
    agent_ = join(0);
    ASSERT_TRUE(agent_) << refusal_;
    agent_->send(Report{0, 0, AgentReady{kHost}});
    server_->send(0, control::Setup{.program = "/p",
                                    .token = "the token",
                                    .run = "/r",
                                    .directory = "/d"});
    EXPECT_TRUE(
        run_until([&] { return events_.size() == 2 && heard_.size() == 1; }));
  }

  Between<tcp::socket> between_{tcp::socket(context_), tcp::socket(context_)};
  std::shared_ptr<Connection> agent_;
};

class PlainWireTest : public WireTest {
 protected:
  PlainWireTest() : WireTest(false) {}
};

class TlsTest : public WireTest {
 protected:
  TlsTest() : WireTest(true) {}

  /// How a stranger's TLS ends: in its handshake, or when he waits for a word,
  /// which is where TLS 1.3 tells a client that it is refused.
  std::string end_of_tls(ssl::context& context) {
    ssl::stream<tcp::socket> stream(stranger(), context);
    try {
      const auto error = error_of(listen_by_tls(stream));
      if (error) std::rethrow_exception(error);
    } catch (const std::exception& problem) {
      return problem.what();
    }
    return "";
  }
  static asio::awaitable<void> listen_by_tls(ssl::stream<tcp::socket>& stream) {
    co_await stream.async_handshake(ssl::stream_base::client, use_awaitable);
    char byte = 0;
    co_await stream.async_read_some(asio::buffer(&byte, 1), use_awaitable);
  }
  void expect_refused(const char* reason) {
    EXPECT_TRUE(run_until([&] { return rejected(reason) == 1; })) << reason;
    EXPECT_THAT(events_, ElementsAre());
    EXPECT_TRUE(join(0)) << refusal_;
  }
};

TEST_F(PlainWireTest, WhoHearsItReadsIt) {
  be_heard();
  EXPECT_THAT(between_.from_agent, AllOf(HasSubstr("job"), HasSubstr(kHost)));
  EXPECT_THAT(between_.from_launcher, HasSubstr("the token"));
}

TEST_F(TlsTest, WhoHearsItReadsNothing) {
  be_heard();
  EXPECT_GT(between_.from_agent.size(), 500U);
  EXPECT_THAT(between_.from_agent,
              AllOf(Not(HasSubstr("job")), Not(HasSubstr(kHost))));
  EXPECT_THAT(between_.from_launcher, Not(HasSubstr("the token")));
}

TEST_F(TlsTest, WhatWasHeardOpensNothingAgain) {
  be_heard();
  const std::string heard = between_.from_agent;
  server_->expect(0, kIncarnation);
  tcp::socket socket = stranger();
  asio::write(socket, asio::buffer(heard));
  EXPECT_TRUE(run_until([&] { return rejected("tls") == 1; }));
  EXPECT_THAT(events_, ElementsAre("0 came", ::testing::_));
}

TEST_F(TlsTest, WhoEndsItOnBothSidesIsRefusedByBoth) {
  ssl::context context = others_context();
  using Wire = ssl::stream<tcp::socket>;
  Between<Wire> between{Wire(context_, context), Wire(context_, context)};
  tcp::acceptor acceptor = any_port(context_);
  meeting_ = acceptor.local_endpoint();
  const auto stand_between = [&]() -> asio::awaitable<void> {
    co_await acceptor.async_accept(between.agent.next_layer(), use_awaitable);
    co_await between.launcher.next_layer().async_connect(endpoint(),
                                                         use_awaitable);
    co_await between.launcher.async_handshake(ssl::stream_base::client,
                                              use_awaitable);
    co_await between.agent.async_handshake(ssl::stream_base::server,
                                           use_awaitable);
    between.begin(context_);
  };
  std::optional<std::exception_ptr> end;
  asio::co_spawn(context_, stand_between(),
                 [&](const std::exception_ptr& error) { end = error; });
  EXPECT_FALSE(join(0));
  EXPECT_THAT(refusal_, HasSubstr("certificate is not of this job's secret"));
  EXPECT_TRUE(run_until([&] { return end.has_value(); }));
  EXPECT_TRUE(end.value_or(nullptr)) << "the agent went on with him";
  meeting_.reset();
  expect_refused("certificate");
}

TEST_F(TlsTest, ACertificateOfAnotherKeyIsRefused) {
  ssl::context context = others_context();
  EXPECT_NE(end_of_tls(context), "");
  expect_refused("certificate");
}

TEST_F(TlsTest, NoCertificateIsRefused) {
  ssl::context context(ssl::context::tlsv13_client);
  EXPECT_THAT(end_of_tls(context), HasSubstr("certificate required"));
  expect_refused("tls");
}

TEST_F(TlsTest, AnOlderVersionIsRefused) {
  ssl::context context = older_context();
  EXPECT_THAT(end_of_tls(context), HasSubstr("protocol version"));
  expect_refused("tls");
}

TEST_F(TlsTest, AnAgentRefusesAnOlderVersion) {
  ssl::context context = older_context();
  tcp::acceptor acceptor = any_port(context_);
  meeting_ = acceptor.local_endpoint();
  ssl::stream<tcp::socket> launcher(context_, context);
  bool over = false;
  acceptor.async_accept(launcher.next_layer(), [&](const error_code&) {
    launcher.async_handshake(ssl::stream_base::server,
                             [&](const error_code&) { over = true; });
  });
  EXPECT_FALSE(join(0));
  EXPECT_THAT(refusal_, HasSubstr("no TLS 1.3 with the launcher"));
  EXPECT_TRUE(run_until([&] { return over; }));
}

TEST_F(TlsTest, AnAgentWithoutItIsRefused) {
  tls_ = false;
  EXPECT_FALSE(join(0));
  EXPECT_THAT(refusal_, HasSubstr("one of the two has TLS"));
  tls_ = true;
  expect_refused("tls");
}

TEST_F(PlainWireTest, AnAgentWithTlsIsRefused) {
  tls_ = true;
  EXPECT_FALSE(join(0));
  EXPECT_THAT(refusal_, HasSubstr("one of the two has TLS"));
  EXPECT_TRUE(run_until([&] { return rejected("protocol") == 1; }));
  tls_ = false;
  EXPECT_TRUE(join(0)) << refusal_;
}

TEST_F(PlainWireTest, AnAgentThatIsAnsweredByAnotherProgramSaysSo) {
  tcp::acceptor acceptor = any_port(context_);
  meeting_ = acceptor.local_endpoint();
  tcp::socket other(context_);
  acceptor.async_accept(other, [&](const error_code&) {
    asio::write(other, asio::buffer(std::string("SSH-2.0-OpenSSH_9.2\r\n")));
  });
  EXPECT_FALSE(join(0));
  EXPECT_THAT(refusal_, HasSubstr("it is another program"));
}

// What is wrong behind TLS is as wrong as without.
TEST_F(TlsTest, LimitsHoldBehindIt) {
  ssl::context context = tls_context(secret());
  ssl::stream<tcp::socket> stream(stranger(), context);
  const auto claim = [&]() -> asio::awaitable<void> {
    co_await stream.async_handshake(ssl::stream_base::client, use_awaitable);
    co_await asio::async_write(
        stream, asio::buffer(frame(std::string(600, 'x'), 600)), use_awaitable);
    char byte = 0;
    co_await stream.async_read_some(asio::buffer(&byte, 1), use_awaitable);
  };
  EXPECT_TRUE(error_of(claim()));
  expect_refused("protocol");
}

}  // namespace
}  // namespace catena::launcher::control
