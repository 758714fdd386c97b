#include "launcher/monitor/monitor.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <thread>
#include <vector>

#include "runtime/base/error.h"
#include "tests/launcher/monitor/run_files.h"

namespace catena::launcher {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

/// A connection to the server that sends what it is told to.
class Client {
 public:
  explicit Client(std::uint16_t port)
      : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(port);
    connected_ = ::connect(socket_, reinterpret_cast<sockaddr*>(&address),
                           sizeof address) == 0;
  }
  ~Client() { ::close(socket_); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  [[nodiscard]] bool connected() const { return connected_; }
  void send(const std::string& bytes) const {
    std::size_t sent = 0;
    while (sent < bytes.size()) {
      const ssize_t count = ::send(socket_, bytes.data() + sent,
                                   bytes.size() - sent, MSG_NOSIGNAL);
      if (count <= 0) return;
      sent += static_cast<std::size_t>(count);
    }
  }
  /// All that comes until it is closed, or nothing comes for `seconds`.
  [[nodiscard]] std::string receive(int seconds = 30) {
    std::string all;
    for (;;) {
      pollfd ready{socket_, POLLIN, 0};
      if (::poll(&ready, 1, seconds * 1000) <= 0) return all + "<open>";
      char piece[4096];
      const ssize_t count = ::recv(socket_, piece, sizeof piece, 0);
      if (count <= 0) return all;
      all.append(piece, static_cast<std::size_t>(count));
    }
  }

 private:
  int socket_;
  bool connected_ = false;
};

class MonitorTest : public ::testing::Test {
 protected:
  MonitorTest() {
    files_.write_run();
    monitor_.emplace(files_.path(), 0);
  }
  std::string exchange(const std::string& request) {
    Client client(monitor_->port());
    EXPECT_TRUE(client.connected());
    client.send(request);
    return client.receive();
  }
  static std::string get(const std::string& target,
                         const std::string& more = "Connection: close\r\n") {
    return "GET " + target + " HTTP/1.1\r\nHost: 127.0.0.1\r\n" + more + "\r\n";
  }

  RunFiles files_;
  std::optional<Monitor> monitor_;
};

TEST_F(MonitorTest, ServesOnTheLoopbackAddress) {
  EXPECT_GT(monitor_->port(), 0);
  EXPECT_EQ(monitor_->address(),
            fmt::format("http://127.0.0.1:{}/", monitor_->port()));
  EXPECT_THAT(exchange(get("/healthz")),
              AllOf(StartsWith("HTTP/1.1 200 OK\r\n"), HasSubstr("\r\n\r\nok"),
                    HasSubstr("Content-Security-Policy: default-src 'none'"),
                    HasSubstr("X-Content-Type-Options: nosniff"),
                    HasSubstr("Content-Length: 3\r\n")));
}

TEST_F(MonitorTest, ServesMetricsInPrometheusFormat) {
  EXPECT_THAT(
      exchange(get("/metrics")),
      AllOf(HasSubstr("Content-Type: text/plain; version=0.0.4; charset=utf-8"),
            HasSubstr("\ncatena_step 10\n")));
}

TEST_F(MonitorTest, HeadHasNoContent) {
  const std::string answer = exchange(
      "HEAD / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_TRUE(answer.ends_with("\r\n\r\n"));
  EXPECT_THAT(answer, Not(HasSubstr("Content-Length: 0")));
}

TEST_F(MonitorTest, AConnectionServesSeveralRequests) {
  EXPECT_THAT(
      exchange(get("/healthz", "") + get("/api/run", "") + get("/healthz")),
      AllOf(HasSubstr("\"state\":\"RUNNING\""), testing::EndsWith("ok\n")));
}

TEST_F(MonitorTest, AnotherHostIsRefused) {
  EXPECT_THAT(exchange("GET /api/run HTTP/1.1\r\nHost: evil.example\r\n\r\n"),
              AllOf(StartsWith("HTTP/1.1 403"), Not(HasSubstr("RUNNING"))));
  EXPECT_THAT(exchange("GET /api/run HTTP/1.1\r\nHost: localhost\r\n"
                       "Host: evil.example\r\n\r\n"),
              StartsWith("HTTP/1.1 403"));
  EXPECT_THAT(exchange("GET /api/run HTTP/1.0\r\n\r\n"),
              StartsWith("HTTP/1.0 403"));
}

TEST_F(MonitorTest, OtherMethodsAreRefused) {
  EXPECT_THAT(exchange("DELETE / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
              AllOf(StartsWith("HTTP/1.1 405"), HasSubstr("Allow: GET, HEAD")));
}

TEST_F(MonitorTest, WhatIsNoRequestIsAnsweredAndClosed) {
  for (const std::string& bytes :
       {std::string("\r\n\r\n\r\nnonsense\r\n\r\n"), std::string(300, '\0'),
        std::string("GET\r\n\r\n"), std::string("GET / HTTP/9.9\r\n\r\n")}) {
    EXPECT_THAT(exchange(bytes), StartsWith("HTTP/1.1 400"));
  }
}

TEST_F(MonitorTest, TooMuchIsRefused) {
  EXPECT_THAT(exchange(get("/", "X: " + std::string(9000, 'x') + "\r\n")),
              StartsWith("HTTP/1.1 413"));
  EXPECT_THAT(exchange(get("/", "Content-Length: 100000\r\n") + "x"),
              StartsWith("HTTP/1.1 413"));
}

TEST_F(MonitorTest, ASlowRequestIsClosedAndHoldsUpNobody) {
  Client slow(monitor_->port());
  slow.send("GET / HT");
  EXPECT_THAT(exchange(get("/healthz")), HasSubstr("ok"));
  EXPECT_EQ(slow.receive(), "");
}

TEST_F(MonitorTest, ConnectionsBeyondTheMostAreClosedAtOnce) {
  std::vector<std::unique_ptr<Client>> held;
  for (int i = 0; i < 64; ++i) {
    held.push_back(std::make_unique<Client>(monitor_->port()));
    held.back()->send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n");
  }
  // Those in the queue of the system are taken in their turn.
  Client more(monitor_->port());
  EXPECT_EQ(more.receive(), "");
  held.clear();
  std::string answer;
  for (int i = 0; i < 100 && answer.empty(); ++i) {
    answer = exchange(get("/healthz"));
  }
  EXPECT_THAT(answer, HasSubstr("ok"));
}

TEST_F(MonitorTest, ManyAskAtOnceWhileTheRunGoesOn) {
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([this, i] {
      const char* targets[] = {"/", "/metrics", "/api/run", "/api/series"};
      for (int turn = 0; turn < 10; ++turn) {
        EXPECT_THAT(exchange(get(targets[(i + turn) % 4])),
                    StartsWith("HTTP/1.1 200"));
      }
    });
  }
  for (int number = 11; number < 60; ++number) {
    files_.append("metrics.jsonl", RunFiles::step(number));
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_F(MonitorTest, EndsWithClientsConnected) {
  Client waiting(monitor_->port());
  waiting.send("GET / HTTP");
  EXPECT_THAT(exchange(get("/healthz")), HasSubstr("ok"));
  monitor_.reset();
  EXPECT_EQ(waiting.receive(), "");
}

TEST_F(MonitorTest, APortThatIsTakenIsAnError) {
  try {
    const Monitor second(files_.path(), monitor_->port());
    FAIL() << "taken twice";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("choose another"));
  }
}

}  // namespace
}  // namespace catena::launcher
