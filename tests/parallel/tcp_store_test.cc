#include <gmock/gmock.h>
#include <poll.h>
#include <sys/socket.h>

#include <atomic>
#include <thread>
#include <vector>

#include "parallel/tcp/store.h"
#include "runtime/base/error.h"

namespace catena::tcp {
namespace {

using ::testing::HasSubstr;
using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

const char* const kLoopback = "127.0.0.1";
constexpr StoreClient::Duration kLong(30), kShort(0.1);

Secret secret() { return Secret("0123456789abcdef"); }

class TcpStoreTest : public ::testing::Test {
 protected:
  [[nodiscard]] std::unique_ptr<StoreClient> client() const {
    return std::make_unique<StoreClient>(kLoopback, server_->port(), secret(),
                                         kLong);
  }
  void serve(StoreServer::Limits limits) {
    server_ = std::make_unique<StoreServer>(kLoopback, 0, secret(), limits);
  }
  /// A connection that has proved nothing.
  [[nodiscard]] Socket stranger() const {
    return connect_to(kLoopback, server_->port(), Clock::now() + 10s);
  }
  /// One that has, and says frames by itself.
  [[nodiscard]] Socket friendly() const {
    Socket socket = stranger();
    const std::string greeting = receive(socket, kGreetingBytes);
    const std::string theirs = greeting.substr(kMagic.size());
    const std::string mine = random_nonce();
    send_all(socket, mine + secret().proof(Role::kClient, theirs, mine),
             Clock::now() + 10s);
    EXPECT_TRUE(secret().proves(receive(socket, kProofBytes), Role::kServer,
                                theirs, mine));
    return socket;
  }
  static std::string receive(const Socket& socket, std::size_t count) {
    std::string bytes;
    while (bytes.size() < count) {
      const std::string more =
          receive_some(socket, count - bytes.size(), Clock::now() + 10s);
      if (more.empty()) break;
      bytes += more;
    }
    return bytes;
  }
  /// Waits until the other side has closed. Returns how long that took.
  static Clock::duration until_closed(const Socket& socket) {
    const auto begin = Clock::now();
    while (!receive_some(socket, 4096, begin + 20s).empty()) {
    }
    return Clock::now() - begin;
  }

  std::unique_ptr<StoreServer> server_ =
      std::make_unique<StoreServer>(kLoopback, 0, secret());
};

/// Runs an action that has to fail, and returns how.
template <class Action>
Error error_of(Action action) {
  try {
    action();
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "no error";
  return {ErrorKind::kInternal, ""};
}

TEST_F(TcpStoreTest, BringsWhatWasSet) {
  const auto one = client(), other = client();
  const std::string bytes("\0a\nb", 4);
  one->set("key", bytes);
  one->set("empty", "");
  one->set("large", std::string(Frame::kMaxValueBytes, 'x'));
  EXPECT_EQ(other->get("key", kLong), bytes);
  EXPECT_EQ(other->get("empty", kLong), "");
  EXPECT_EQ(one->get("large", kLong), std::string(64 * 1024, 'x'));
}

TEST_F(TcpStoreTest, WaitsUntilAKeyIsSet) {
  std::vector<std::thread> waiters;
  std::atomic<int> got = 0;
  for (int i = 0; i < 8; ++i) {
    waiters.emplace_back([&] {
      if (client()->get("late", kLong) == "value") ++got;
    });
  }
  std::this_thread::sleep_for(50ms);
  EXPECT_EQ(got, 0);
  client()->set("late", "value");
  for (std::thread& waiter : waiters) waiter.join();
  EXPECT_EQ(got, 8);
}

TEST_F(TcpStoreTest, AMissingKeyIsNamedAtTheDeadline) {
  const auto one = client();
  const auto begin = Clock::now();
  const Error error = error_of([&] { (void)one->get("absent", kShort); });
  EXPECT_EQ(error.kind(), ErrorKind::kTimeout);
  EXPECT_THAT(error.what(),
              HasSubstr("nobody has set \"absent\" within 0.1 s"));
  EXPECT_LT(Clock::now() - begin, 5s);
  one->set("absent", "now");
  EXPECT_EQ(one->get("absent", kLong), "now");
}

TEST_F(TcpStoreTest, AKeyIsSetOnce) {
  const auto one = client();
  one->set("key", "value");
  one->set("key", "value");  // as after a lost answer
  const Error error = error_of([&] { one->set("key", "other"); });
  EXPECT_EQ(error.kind(), ErrorKind::kCommunication);
  EXPECT_THAT(error.what(), HasSubstr("another value already"));
  EXPECT_THAT(error.what(), HasSubstr("\"key\""));
  EXPECT_EQ(client()->get("key", kLong), "value");
}

TEST_F(TcpStoreTest, AnotherTokenIsRefused) {
  const Error error = error_of([&] {
    StoreClient(kLoopback, server_->port(), Secret("fedcba9876543210"), kLong);
  });
  EXPECT_EQ(error.kind(), ErrorKind::kConfig);
  EXPECT_THAT(error.what(), HasSubstr("belongs to another run"));
  client()->set("still", "here");
  EXPECT_GE(server_->turned_away(), 1);
  EXPECT_THROW(Secret("short"), Error);
  EXPECT_EQ(random_token().size(), 32U);
  EXPECT_NE(random_token(), random_token());
}

TEST_F(TcpStoreTest, AProofServesOneConnectionAndOneSide) {
  const std::string one = random_nonce(), other = random_nonce();
  const std::string proof = secret().proof(Role::kClient, one, other);
  EXPECT_TRUE(secret().proves(proof, Role::kClient, one, other));
  EXPECT_FALSE(secret().proves(proof, Role::kClient, other, one));
  EXPECT_FALSE(secret().proves(proof, Role::kServer, one, other));
  EXPECT_FALSE(secret().proves(proof.substr(1), Role::kClient, one, other));
  EXPECT_FALSE(secret().proves("", Role::kClient, one, other));
}

TEST_F(TcpStoreTest, StrangersAreTurnedAwayAfterTheirTime) {
  serve({.handshake = 300ms});
  const auto one = client();
  const Socket silent = stranger(), slow = stranger(), loud = stranger();
  const std::string garbage(1 << 16, 'g');
  // It may be turned away before it has said all.
  EXPECT_LE(send_now(loud, garbage).bytes, garbage.size());
  send_all(slow, "half", Clock::now() + 10s);
  one->set("meanwhile", "served");
  EXPECT_LT(until_closed(silent), 10s);
  EXPECT_LT(until_closed(slow), 10s);
  EXPECT_LT(until_closed(loud), 10s);
  EXPECT_EQ(server_->turned_away(), 3);
  EXPECT_EQ(one->get("meanwhile", kLong), "served");
}

TEST_F(TcpStoreTest, FewStrangersAtATime) {
  serve({.handshake = 500ms, .strangers = 4});
  const auto one = client();
  std::vector<Socket> strangers;
  for (int i = 0; i < 50; ++i) strangers.push_back(stranger());
  for (const Socket& socket : strangers) until_closed(socket);
  EXPECT_EQ(server_->turned_away(), 50);
  client()->set("key", "value");
  EXPECT_EQ(one->get("key", kLong), "value");
}

TEST_F(TcpStoreTest, NoMoreClientsThanTheLimit) {
  serve({.clients = 2});
  const auto one = client(), other = client();
  other->set("key", "value");
  const Error error = error_of([&] { (void)client(); });
  EXPECT_EQ(error.kind(), ErrorKind::kCommunication);
  EXPECT_THAT(error.what(), HasSubstr("full"));
  EXPECT_EQ(one->get("key", kLong), "value");
}

TEST_F(TcpStoreTest, BadFramesEndTheirConnectionAlone) {
  const auto one = client();
  const std::string bad[] = {
      std::string("x\1\0\0\0\0\0k", 8),                // unknown kind
      std::string("s\1\0\377\377\377\377k", 8),        // 4 GiB to come
      std::string("s\0\0\1\0\0\0v", 8),                // no key
      std::string("g\1\0\1\0\0\0kv", 9),               // a value in a question
      Frame{FrameKind::kValue, "", "v"}.bytes(),       // an answer
      Frame{FrameKind::kGet, "k", ""}.bytes() + "g"};  // two questions
  for (const std::string& bytes : bad) {
    const Socket socket = friendly();
    send_all(socket, bytes, Clock::now() + 10s);
    EXPECT_LT(until_closed(socket), 10s);
  }
  EXPECT_EQ(server_->turned_away(), 6);
  one->set("key", "value");
}

TEST_F(TcpStoreTest, TooMuchIsRefused) {
  serve({.bytes = 1000});
  const auto one = client();
  EXPECT_EQ(error_of([&] { one->set(std::string(300, 'k'), ""); }).kind(),
            ErrorKind::kInvalidArgument);
  EXPECT_EQ(error_of([&] { one->set("k", std::string(1 << 17, 'v')); }).kind(),
            ErrorKind::kInvalidArgument);
  const Error error = error_of([&] { one->set("k", std::string(1000, 'v')); });
  EXPECT_EQ(error.kind(), ErrorKind::kCommunication);
  EXPECT_THAT(error.what(), HasSubstr("full"));
  one->set("k", std::string(999, 'v'));
}

TEST_F(TcpStoreTest, AWaitingClientThatLeavesIsForgotten) {
  {
    const Socket socket = friendly();
    send_all(socket, Frame{FrameKind::kGet, "key", ""}.bytes(),
             Clock::now() + 10s);
  }
  const auto one = client();
  one->set("key", "value");
  EXPECT_EQ(one->get("key", kLong), "value");
}

TEST_F(TcpStoreTest, ADeadServerEndsInAnError) {
  const auto one = client();
  std::thread death([&] {
    std::this_thread::sleep_for(50ms);
    server_.reset();
  });
  const Error waiting = error_of([&] { (void)one->get("key", kLong); });
  death.join();
  EXPECT_EQ(waiting.kind(), ErrorKind::kCommunication);
  EXPECT_THAT(waiting.what(), HasSubstr("has ended: look at rank 0"));
  const Error later = error_of([&] { (void)one->get("key", kShort); });
  EXPECT_EQ(later.kind(), ErrorKind::kTimeout);
  EXPECT_THAT(later.what(), HasSubstr("no connection to 127.0.0.1"));
  EXPECT_THAT(later.what(), HasSubstr("\"key\""));
}

TEST_F(TcpStoreTest, AServerThatSaysNothingOrGarbageEndsInAnError) {
  const Socket silent = listen_at(kLoopback, 0);
  const auto port = port_of(silent);
  const auto begin = Clock::now();
  EXPECT_EQ(
      error_of([&] { StoreClient(kLoopback, port, secret(), kShort); }).kind(),
      ErrorKind::kTimeout);
  EXPECT_LT(Clock::now() - begin, 5s);
  std::thread garbage([&] {
    // The connection from above is the first.
    Socket first = accept_from(silent);
    pollfd wanted{silent.get(), POLLIN, 0};
    EXPECT_EQ(poll(&wanted, 1, 10000), 1);
    const Socket second = accept_from(silent);
    send_all(second, std::string(1000, 'g'), Clock::now() + 10s);
    EXPECT_LT(until_closed(second), 20s);
  });
  const Error error =
      error_of([&] { StoreClient(kLoopback, port, secret(), kLong); });
  garbage.join();
  EXPECT_EQ(error.kind(), ErrorKind::kCommunication);
  EXPECT_THAT(error.what(), HasSubstr("is no store"));
}

TEST_F(TcpStoreTest, ListensWhereItIsTold) {
  EXPECT_EQ(error_of([&] { StoreServer("localhost.", 0, secret()); }).kind(),
            ErrorKind::kConfig);
  EXPECT_EQ(error_of([&] { StoreServer("192.0.2.1", 0, secret()); }).kind(),
            ErrorKind::kConfig);
  EXPECT_EQ(error_of([&] {
              StoreServer(kLoopback, server_->port(), secret());
            }).kind(),
            ErrorKind::kIo);
}

TEST(FrameTest, FramesComeOutOfAnyPieces) {
  const Frame frames[] = {{FrameKind::kSet, "key", std::string(5000, 'v')},
                          {FrameKind::kGet, "key", ""},
                          {FrameKind::kDone, "", ""},
                          {FrameKind::kRefused, "", "why"}};
  std::string stream;
  for (const Frame& frame : frames) stream += frame.bytes();
  for (const std::size_t piece : {1, 3, 7, 100, 10000}) {
    FrameReader reader;
    std::vector<Frame> read;
    for (std::size_t at = 0; at < stream.size(); at += piece) {
      reader.add(std::string_view(stream).substr(at, piece));
      while (auto frame = reader.next()) read.push_back(*frame);
    }
    ASSERT_EQ(read.size(), 4U);
    for (std::size_t i = 0; i < 4; ++i) {
      EXPECT_EQ(read[i].bytes(), frames[i].bytes());
    }
    EXPECT_EQ(reader.held(), 0U);
  }
}

}  // namespace
}  // namespace catena::tcp
