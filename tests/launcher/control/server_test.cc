// Agents and strangers at a real socket of the loopback interface, all of it
// with TLS and without.

#include "launcher/control/server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/asio/buffer.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/write.hpp>

#include "launcher/control/connection.h"
#include "launcher/control/handshake.h"
#include "runtime/base/error.h"
#include "tests/launcher/control/server_fixture.h"

namespace catena::launcher::control {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class ServerTest : public ServerFixture,
                   public ::testing::WithParamInterface<bool> {
 protected:
  ServerTest() : ServerFixture(GetParam()) {}
};
INSTANTIATE_TEST_SUITE_P(Over, ServerTest, ::testing::Bool(),
                         [](const ::testing::TestParamInfo<bool>& info) {
                           return info.param ? "Tls" : "Plain";
                         });

TEST_P(ServerTest, AnAgentAndItsLauncherHearEachOther) {
  const auto agent = join(0);
  ASSERT_TRUE(agent) << refusal_;
  EXPECT_EQ(agent->local_address(), "127.0.0.1");
  agent->send(Report{77, 0, AgentReady{"h"}});
  server_->send(0, Command{1, Stop{}});
  server_->send(1, Command{1, Stop{}});
  EXPECT_TRUE(
      run_until([&] { return events_.size() == 2 && heard_.size() == 1; }));
  EXPECT_THAT(events_, ElementsAre("0 came", "0 says h"));
  agent->close();
  EXPECT_TRUE(run_until([&] { return events_.size() == 3; }));
  EXPECT_EQ(events_.back(), "0 lost: it closed the connection");
}

// Its own time for the handshake was over: it tries again.
TEST_P(ServerTest, WhoGivesUpAsItIsLetInMayComeAgain) {
  std::shared_ptr<Connection> late;
  asio::co_spawn(context_,
                 connect(endpoint(), secret(), {"job", 0, kIncarnation}, tls_),
                 [&](const std::exception_ptr&,
                     const std::shared_ptr<Connection>& c) { late = c; });
  EXPECT_TRUE(run_until([&] { return late != nullptr; }));
  late.reset();
  run_until([] { return false; }, milliseconds(200));
  EXPECT_TRUE(events_.empty());
  const auto agent = join(0);
  ASSERT_TRUE(agent) << refusal_;
  EXPECT_TRUE(run_until([&] { return !events_.empty(); }));
  agent->close();
  EXPECT_TRUE(run_until([&] { return events_.size() == 2; }));
  EXPECT_THAT(events_, ElementsAre("0 came", HasSubstr("0 lost: ")));
}

// Else nothing of it would be read any more, and nobody told.
TEST_P(ServerTest, WhatFailsOverAMessageLosesItsAgent) {
  const auto agent = join(0);
  ASSERT_TRUE(agent) << refusal_;
  // The fixture reads another one.
  agent->send(Report{0, 1, RankJoined{0}});
  EXPECT_TRUE(run_until([&] { return events_.size() == 2; }));
  EXPECT_THAT(events_.back(), HasSubstr("0 lost: "));
  EXPECT_TRUE(run_until([&] { return !why_.empty(); }));
}

// More than a record of TLS, and than sockets take at once, both ways.
TEST_P(ServerTest, LargeMessagesArriveWhole) {
  const auto agent = join(0);
  ASSERT_TRUE(agent) << refusal_;
  control::Setup setup{
      .program = "/p", .token = "t", .run = "/r", .directory = "/d"};
  for (int i = 0; i < 8; ++i) {
    setup.environment.push_back(
        fmt::format("E{}={}", i, std::string(100000, 'e')));
  }
  for (int i = 0; i < 4; ++i) {
    server_->send(0, setup);
    for (int j = 0; j < 100; ++j) {
      agent->send(Report{0, 0, AgentReady{std::string(300, 'h')}});
    }
  }
  EXPECT_TRUE(
      run_until([&] { return events_.size() == 401 && heard_.size() == 4; }));
  for (const Message& message : heard_) {
    EXPECT_TRUE(std::get<control::Setup>(message) == setup);
  }
  EXPECT_EQ(why_, "");
}

TEST_P(ServerTest, OnlyWhoIsExpectedComesIn) {
  EXPECT_FALSE(join(0, kIncarnation, secret('x')));
  EXPECT_THAT(refusal_, HasSubstr("another secret"));
  EXPECT_FALSE(join(1));
  EXPECT_FALSE(join(0, kIncarnation + 1));
  EXPECT_TRUE(events_.empty());
  const char* reason = GetParam() ? "tls" : "proof";
  EXPECT_TRUE(run_until([&] { return rejected(reason) == 1; }));
  EXPECT_EQ(rejected("agent"), 2);
  const auto first = join(0);
  EXPECT_TRUE(first);
  EXPECT_FALSE(join(0)) << "its place is taken";
  server_->expect(0, kIncarnation + 1);
  EXPECT_FALSE(join(0)) << "of an earlier incarnation";
  const auto second = join(0, kIncarnation + 1);
  EXPECT_TRUE(second);
  EXPECT_THAT(events_, ElementsAre("0 came", "0 came"));
  EXPECT_TRUE(run_until([&] { return !why_.empty(); }));
}

TEST_P(ServerTest, GarbageIsTurnedAwayAndChangesNothing) {
  const auto agent = join(0);
  ASSERT_TRUE(agent);
  const std::string garbage[] = {
      "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
      std::string("\x16\x03\x01\x00\x04nono", 9),
      std::string("\x00\x00\x00\x80\x00", 5),
      std::string("\xff\xff\xff\xff\xff\xff", 6),
      frame("no greeting", kMaxGreetingBytes),
      frame("", kMaxGreetingBytes) + frame("", kMaxGreetingBytes),
      frame(write(Command{1, Stop{true}}), kMaxGreetingBytes),
      Sealer(secret()).seal(write(Report{0, 0, AgentReady{"x"}})),
      std::string(100000, 'x')};
  for (const std::string& bytes : garbage) {
    tcp::socket socket = stranger();
    boost::system::error_code ignored;
    asio::write(socket, asio::buffer(bytes), ignored);
    // An alert of TLS, at most.
    EXPECT_TRUE(is_closed(socket, seconds(10), GetParam() ? 7 : 0))
        << bytes.substr(0, 20);
  }
  agent->send(Report{0, 0, AgentReady{"h"}});
  EXPECT_TRUE(run_until([&] { return events_.size() == 2; }));
  EXPECT_THAT(events_, ElementsAre("0 came", "0 says h"));
}

TEST_P(ServerTest, WhoSaysLittleOrNothingHasTwoSeconds) {
  tcp::socket idle = stranger(), slow = stranger();
  const std::string hello =
      GetParam() ? std::string("\x16\x03\x01\x02\x00\x01\x00\x01\xfc", 9) +
                       std::string(508, '\x03')
                 : frame(AgentHandshake(secret(), {"job", 0, kIncarnation},
                                        random_nonce())
                             .hello(),
                         kMaxGreetingBytes);
  const auto begin = std::chrono::steady_clock::now();
  boost::system::error_code error;
  std::size_t sent = 0;
  // A byte each 100 ms would take longer than the two seconds.
  run_until(
      [&] {
        const auto due = static_cast<std::size_t>(
            (std::chrono::steady_clock::now() - begin) / milliseconds(100));
        while (!error && sent < due && sent < hello.size()) {
          asio::write(slow, asio::buffer(&hello[sent++], 1), error);
        }
        return rejected("deadline") == 2;
      },
      seconds(8));
  EXPECT_EQ(rejected("deadline"), 2);
  EXPECT_GE(std::chrono::steady_clock::now() - begin, seconds(2));
  EXPECT_TRUE(is_closed(idle, seconds(10)));
}

TEST_P(ServerTest, AThousandIdleConnectionsKeepNoAgentOut) {
  const std::size_t before = open_descriptors();
  std::vector<tcp::socket> idle;
  for (int i = 0; i < 1000; ++i) {
    idle.push_back(stranger());
    // As many as the kernel holds for us would be too many.
    if (i % 50 == 0) run_until([&] { return rejected("crowded") >= i - 58; });
  }
  EXPECT_TRUE(run_until([&] { return rejected("crowded") == 992; }));
  const auto agent = join(0);
  EXPECT_TRUE(agent) << refusal_;
  EXPECT_LE(open_descriptors(), before + 1000 + 12);
  idle.clear();
  EXPECT_TRUE(run_until([&] { return open_descriptors() <= before + 2; }));
  EXPECT_THAT(events_, ElementsAre("0 came"));
}

// An agent takes an orderly end for a refusal, and gives up; after a reset it
// tries again.
TEST_P(ServerTest, WhoIsCrowdedOutOrLateIsNotRefused) {
  tcp::socket crowded_out = stranger();
  std::vector<tcp::socket> others;
  for (std::size_t i = 0; i < Server::kMostOfOneAddress; ++i) {
    others.push_back(stranger());
  }
  EXPECT_EQ(end_of(crowded_out), asio::error::connection_reset);
  EXPECT_EQ(rejected("crowded"), 1);
  EXPECT_EQ(end_of(others.back()), asio::error::connection_reset);
  EXPECT_EQ(rejected("deadline"), 8);
}

TEST_P(ServerTest, ASilentAgentIsLostAfterItsLease) {
  open(milliseconds(300));
  // Its own heartbeats are a tenth of a lease that is far too long.
  const auto agent = join(0, kIncarnation, secret(), seconds(100));
  ASSERT_TRUE(agent);
  EXPECT_TRUE(run_until([&] { return events_.size() == 2; }));
  EXPECT_THAT(events_.back(), HasSubstr("nothing was heard of it for 0.3 s"));
  EXPECT_TRUE(run_until([&] { return !why_.empty(); }));
}

TEST_P(ServerTest, HeartbeatsKeepAConnectionThatIsSilent) {
  open(milliseconds(300));
  const auto agent = join(0, kIncarnation, secret(), milliseconds(300));
  ASSERT_TRUE(agent);
  EXPECT_FALSE(
      run_until([&] { return events_.size() > 1; }, milliseconds(1500)));
  EXPECT_EQ(why_, "");
}

TEST_P(ServerTest, ASilentLauncherIsLostAfterTheLease) {
  open(seconds(100));
  const auto agent = join(0, kIncarnation, secret(), milliseconds(300));
  ASSERT_TRUE(agent);
  EXPECT_TRUE(run_until([&] { return !why_.empty(); }));
  EXPECT_THAT(why_, HasSubstr("nothing was heard"));
}

TEST_P(ServerTest, NothingThatListensIsNotReached) {
  server_.reset();
  std::string said;
  asio::co_spawn(
      context_,
      connect({asio::ip::address_v4::loopback(), 1}, secret(), {"job", 0, 1},
              GetParam()),
      [&](const std::exception_ptr& error, const std::shared_ptr<Connection>&) {
        try {
          if (error) std::rethrow_exception(error);
        } catch (const std::exception& problem) {
          said = problem.what();
        }
      });
  EXPECT_TRUE(run_until([&] { return !said.empty(); }));
  EXPECT_THAT(said, HasSubstr("refused"));
}

TEST_P(ServerTest, AnAddressOfAnotherMachineIsRefused) {
  EXPECT_THROW(
      Server(context_, secret(), {.address = "192.0.2.1", .job = "job"}, {}),
      Error);
}

}  // namespace
}  // namespace catena::launcher::control
