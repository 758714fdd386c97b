#include "launcher/monitor/monitor.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "runtime/base/error.h"
#include "tests/launcher/monitor/run_files.h"
#include "tests/support/http_client.h"

namespace catena::launcher {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

class MonitorTest : public ::testing::Test {
 protected:
  MonitorTest() {
    files_.write_run();
    monitor_.emplace(files_.path());
  }
  std::string exchange(const std::string& request) {
    HttpClient client(monitor_->port());
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

TEST_F(MonitorTest, ServesWhereItIsTold) {
  const Monitor everywhere(files_.path(), {.address = "0.0.0.0"});
  EXPECT_EQ(everywhere.address(),
            fmt::format("http://0.0.0.0:{}/", everywhere.port()));
  EXPECT_EQ(http_get(everywhere.port(), "/healthz"), "ok\n");
  EXPECT_THAT(everywhere.announcement(),
              AllOf(StartsWith("dashboard at " + everywhere.address()),
                    HasSubstr("for everybody who reaches it")));
  EXPECT_EQ(monitor_->announcement(), "dashboard at " + monitor_->address());
  EXPECT_THROW(Monitor(files_.path(), {.address = "example.org"}), Error);
}

TEST(MonitorPlaceTest, IsAPortOrAnAddressAndAPort) {
  const auto of = [](const char* text) {
    const MonitorPlace place = parse_place(text, "--here");
    return fmt::format("{} {}", place.address, place.port);
  };
  EXPECT_EQ(of("0"), "127.0.0.1 0");
  EXPECT_EQ(of("65535"), "127.0.0.1 65535");
  EXPECT_EQ(of("0.0.0.0:80"), "0.0.0.0 80");
  EXPECT_EQ(of("[::1]:8080"), "::1 8080");
  for (const char* bad : {"", "x", "-1", "65536", "1x", " 1", ":80", "0.0.0.0:",
                          "0.0.0.0", "example.org:80", "[::1]", "::1:x"}) {
    EXPECT_THROW((void)of(bad), Error) << bad;
  }
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
  HttpClient slow(monitor_->port());
  slow.send("GET / HT");
  EXPECT_THAT(exchange(get("/healthz")), HasSubstr("ok"));
  EXPECT_EQ(slow.receive(), "");
}

TEST_F(MonitorTest, ConnectionsBeyondTheMostAreClosedAtOnce) {
  std::vector<std::unique_ptr<HttpClient>> held;
  for (int i = 0; i < 64; ++i) {
    held.push_back(std::make_unique<HttpClient>(monitor_->port()));
    held.back()->send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n");
  }
  // Those in the queue of the system are taken in their turn.
  HttpClient more(monitor_->port());
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
  HttpClient waiting(monitor_->port());
  waiting.send("GET / HTTP");
  EXPECT_THAT(exchange(get("/healthz")), HasSubstr("ok"));
  monitor_.reset();
  EXPECT_EQ(waiting.receive(), "");
}

TEST_F(MonitorTest, APortThatIsTakenIsAnError) {
  try {
    const Monitor second(files_.path(), {.port = monitor_->port()});
    FAIL() << "taken twice";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("choose another"));
  }
}

}  // namespace
}  // namespace catena::launcher
