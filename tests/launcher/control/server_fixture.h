#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <boost/asio/buffer.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "launcher/control/connection.h"
#include "launcher/control/handshake.h"
#include "launcher/control/server.h"

namespace catena::launcher::control {

inline constexpr int kIncarnation = 1;

inline Secret secret(char letter = 's') {
  return Secret(std::string(64, letter));
}

inline std::size_t open_descriptors() {
  std::size_t count = 0;
  for ([[maybe_unused]] const auto& entry :
       std::filesystem::directory_iterator("/proc/self/fd")) {
    ++count;
  }
  return count;
}

/// A Server at a real socket of the loopback interface, who waits for agent 0
/// of job "job", with TLS or without; agents and strangers in the same thread.
class ServerFixture : public ::testing::Test {
 protected:
  using tcp = boost::asio::ip::tcp;

  explicit ServerFixture(bool tls) : tls_(tls) {
    open(std::chrono::seconds(10));
  }

  void open(Duration lease) {
    server_ = std::make_unique<Server>(
        context_, secret(),
        Server::Options{.tls = tls_, .job = "job", .lease = lease},
        Server::Hooks{.connected =
                          [this](int agent) {
                            events_.push_back(fmt::format("{} came", agent));
                          },
                      .reported =
                          [this](const Report& report) {
                            events_.push_back(fmt::format(
                                "{} says {}", report.agent,
                                std::get<AgentReady>(report.body).host));
                          },
                      .lost =
                          [this](int agent, const std::string& why) {
                            events_.push_back(
                                fmt::format("{} lost: {}", agent, why));
                          }});
    server_->expect(0, kIncarnation);
  }
  tcp::endpoint endpoint() {
    return {boost::asio::ip::address_v4::loopback(), server_->port()};
  }

  /// Until `done`, ten seconds at most.
  template <class Done>
  bool run_until(Done done, Duration most = std::chrono::seconds(10)) {
    const auto until = std::chrono::steady_clock::now() + most;
    while (!done() && std::chrono::steady_clock::now() < until) {
      context_.run_one_for(std::chrono::milliseconds(2));
      context_.restart();
    }
    return done();
  }

  /// Runs it. Returns what it threw, or nothing.
  std::exception_ptr error_of(boost::asio::awaitable<void> work) {
    std::optional<std::exception_ptr> result;
    boost::asio::co_spawn(
        context_, std::move(work),
        [&](const std::exception_ptr& error) { result = error; });
    EXPECT_TRUE(run_until([&] { return result.has_value(); }));
    return result.value_or(nullptr);
  }

  /// Connects, and keeps the connection or what was said against it.
  std::shared_ptr<Connection> join(int agent, int incarnation = kIncarnation,
                                   const Secret& key = secret(),
                                   Duration lease = std::chrono::seconds(10)) {
    std::shared_ptr<Connection> result;
    bool over = false;
    refusal_.clear();
    boost::asio::co_spawn(context_,
                          connect(meeting_.value_or(endpoint()), key,
                                  {"job", agent, incarnation}, tls_),
                          [&](const std::exception_ptr& error,
                              const std::shared_ptr<Connection>& connection) {
                            over = true;
                            result = connection;
                            try {
                              if (error) std::rethrow_exception(error);
                            } catch (const std::exception& problem) {
                              refusal_ = problem.what();
                            }
                          });
    EXPECT_TRUE(run_until([&] { return over; }));
    if (result) {
      const std::size_t before = events_.size();
      result->start({.heard = [this](const Message& m) { heard_.push_back(m); },
                     .lost = [this](const std::string& why) { why_ = why; }},
                    lease);
      EXPECT_TRUE(run_until([&] { return events_.size() > before; }));
    }
    return result;
  }

  tcp::socket stranger() {
    tcp::socket socket(context_);
    socket.connect(endpoint());
    return socket;
  }
  /// Whether the other end closes it, and says no more than `most` bytes.
  bool is_closed(tcp::socket& socket, Duration most, std::size_t bytes = 0) {
    std::string said(4096, '\0');
    bool closed = false;
    std::size_t got = 0;
    boost::asio::async_read(
        socket, boost::asio::buffer(said),
        [&](const boost::system::error_code&, std::size_t count) {
          closed = true;
          got = count;
        });
    run_until([&] { return closed; }, most);
    if (!closed) {
      socket.cancel();
      run_until([&] { return closed; });
      return false;
    }
    return got <= bytes;
  }
  /// How the other end ends it, who says nothing.
  boost::system::error_code end_of(tcp::socket& socket) {
    char byte = 0;
    std::optional<boost::system::error_code> result;
    socket.async_read_some(boost::asio::buffer(&byte, 1),
                           [&](const boost::system::error_code& error,
                               std::size_t) { result = error; });
    run_until([&] { return result.has_value(); });
    socket.close();
    run_until([&] { return result.has_value(); });
    return *result;
  }
  std::int64_t rejected(const std::string& reason) {
    return server_->rejected().at(reason);
  }

  bool tls_;  ///< of a server that is opened, and of agents that join
  std::optional<tcp::endpoint> meeting_ = {};  ///< where they do, if elsewhere
  boost::asio::io_context context_;
  std::vector<std::string> events_;
  std::vector<Message> heard_;
  std::string refusal_, why_;
  std::unique_ptr<Server> server_;
};

}  // namespace catena::launcher::control
