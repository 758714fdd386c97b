// catena-bench-control [--connections N] [--exchanges N] [--rounds N]
// What TLS takes of the control plane: agents connect to a launcher's server
// over the loopback interface, all in one thread, and answer it; with TLS and
// without, in turns.

#include <malloc.h>

#include <CLI/CLI.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <cstdio>
#include <memory>
#include <vector>

#include "bench/program.h"
#include "bench/timing.h"
#include "launcher/control/connection.h"
#include "launcher/control/server.h"
#include "runtime/base/error.h"

namespace catena::bench {
namespace {

namespace asio = boost::asio;
using namespace launcher;
using control::Connection;

constexpr double kMicro = 1e6, kKiB = 1024;
constexpr int kIncarnation = 1;
/// No heartbeat falls into what is measured.
constexpr std::chrono::hours kLease(10);

control::Secret secret() { return control::Secret(std::string(64, 's')); }

double heap_bytes() { return static_cast<double>(::mallinfo2().uordblks); }

class Meeting {
 public:
  explicit Meeting(bool tls)
      : tls_(tls),
        server_(context_, secret(), {.tls = tls, .job = "job", .lease = kLease},
                {.connected = [this](int) { ++connected_; },
                 .reported = [this](const Report&) { ++reports_; },
                 .lost = [](int, const std::string&) {}}) {}

  /// One after another.
  void connect(int agents) {
    for (int agent = 0; agent < agents; ++agent) {
      server_.expect(agent, kIncarnation);
      asio::co_spawn(
          context_,
          control::connect({asio::ip::address_v4::loopback(), server_.port()},
                           secret(), {"job", agent, kIncarnation}, tls_),
          [this](const std::exception_ptr& error,
                 const std::shared_ptr<Connection>& connection) {
            if (error) std::rethrow_exception(error);
            answer(connection);
          });
      while (connected_ <= agent ||
             connections_.size() <= static_cast<std::size_t>(agent)) {
        context_.run_one();
      }
    }
  }

  /// A command to each agent in turn, and its report; so many of both.
  void exchange(int count) {
    const int agents = static_cast<int>(connections_.size());
    for (int i = 0; i < count; ++i) {
      const int before = reports_;
      server_.send(i % agents, Command{1, Ping{}});
      while (reports_ == before) context_.run_one();
    }
  }

 private:
  void answer(const std::shared_ptr<Connection>& connection) {
    connection->start({.heard =
                           [at = connection.get()](const control::Message&) {
                             at->send(Report{0, 0, AgentReady{"node1"}});
                           },
                       .lost = [](const std::string&) {}},
                      kLease);
    connections_.push_back(connection);
  }

  const bool tls_;
  asio::io_context context_;
  control::Server server_;
  std::vector<std::shared_ptr<Connection>> connections_;
  int connected_ = 0, reports_ = 0;
};

struct Options {
  int connections = 200, exchanges = 5000, rounds = 5;
};

/// Of each round.
struct Measured {
  std::vector<double> handshake_us, exchange_us, kib;
};

void measure(bool tls, const Options& options, Measured& measured) {
  const double heap = heap_bytes();
  Meeting meeting(tls);
  const double connecting =
      core_seconds_of([&] { meeting.connect(options.connections); });
  const double grown = heap_bytes() - heap;
  const double exchanging =
      core_seconds_of([&] { meeting.exchange(options.exchanges); });
  measured.handshake_us.push_back(kMicro * connecting / options.connections);
  measured.exchange_us.push_back(kMicro * exchanging / options.exchanges);
  // Each has two ends, both here.
  measured.kib.push_back(grown / kKiB / 2 / options.connections);
}

void print(const char* name, const Measured& measured) {
  std::printf("| %s | %s | %s | %s |\n", name,
              with_spread(measured.handshake_us, 0).c_str(),
              with_spread(measured.exchange_us, 1).c_str(),
              with_spread(measured.kib, 0).c_str());
}

}  // namespace

int run(int argc, char** argv) {
  Options options;
  CLI::App app("What TLS takes of the control plane.", "catena-bench-control");
  app.add_option("--connections", options.connections)
      ->check(CLI::Range(1, 400));
  app.add_option("--exchanges", options.exchanges)->check(CLI::PositiveNumber);
  app.add_option("--rounds", options.rounds)->check(CLI::PositiveNumber);
  CLI11_PARSE(app, argc, argv);
  Measured plain, tls;
  for (int round = 0; round < options.rounds; ++round) {
    measure(false, options, plain);
    measure(true, options, tls);
  }
  std::printf(
      "Both ends together, core time; median (lowest-highest) of %d rounds\n\n"
      "| | handshake, us | a command and its report, us | KiB an end |\n"
      "| --- | ---: | ---: | ---: |\n",
      options.rounds);
  print("plain", plain);
  print("TLS 1.3", tls);
  return 0;
}

}  // namespace catena::bench
