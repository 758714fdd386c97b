// Strangers by the hundred at a launcher's port, beside an agent that goes on.
// CATENA_STRANGERS says how many of each kind (200; by TLS 50), and has a table
// printed.

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <openssl/ssl.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/ssl/stream.hpp>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <fstream>
#include <functional>
#include <map>
#include <random>
#include <set>

#include "launcher/control/frame.h"
#include "launcher/control/tls.h"
#include "tests/launcher/control/server_fixture.h"

namespace catena::launcher::control {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;
using std::chrono::seconds;
using ::testing::HasSubstr;
using Clock = std::chrono::steady_clock;
using Reasons = std::set<std::string>;

constexpr int kAgent = 1;  ///< whose place is free
constexpr std::size_t kMostIdle = 1000;
constexpr std::int64_t kMostGrowth = std::int64_t{16} << 20U;

std::int64_t resident_bytes() {
  std::ifstream file("/proc/self/statm");
  std::int64_t all = 0, resident = 0;
  file >> all >> resident;
  return resident * ::sysconf(_SC_PAGESIZE);
}

double since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

/// What one of them writes, and why it is to be turned away.
struct Kind {
  const char* name;
  std::function<std::string()> bytes;
  Reasons reasons;
};

class StrangersTest : public ServerFixture {
 protected:
  explicit StrangersTest(bool tls = false, int count = 200)
      : ServerFixture(tls), count_(count) {
    const char* told = std::getenv("CATENA_STRANGERS");
    if (told != nullptr) count_ = std::atoi(told);
    tell_ = told != nullptr;
    server_->expect(kAgent, kIncarnation);
    agent_ = join(0);
    EXPECT_TRUE(agent_) << refusal_;
  }

  /// A report and a command, both heard. Returns the seconds it took.
  double exchange() {
    const auto begin = Clock::now();
    const std::size_t events = events_.size() + 1, heard = heard_.size() + 1;
    agent_->send(Report{0, 0, AgentReady{fmt::format("{}", ++said_)}});
    server_->send(0, Command{said_, Ping{}});
    EXPECT_TRUE(run_until(
        [&] { return events_.size() >= events && heard_.size() >= heard; }));
    EXPECT_EQ(events_.size(), events) << "others were heard, too";
    EXPECT_EQ(events_.back(), fmt::format("0 says {}", said_));
    return since(begin);
  }

  std::int64_t turned_away() const {
    std::int64_t all = 0;
    for (const auto& [reason, count] : server_->rejected()) all += count;
    return all;
  }

  /// Runs `come` for each stranger, then `leave`, with the agent at work
  /// between them: all are turned away, for one of these reasons, and nothing
  /// is left of them.
  void flood(const std::string& name, const Reasons& reasons,
             const std::function<void()>& come,
             const std::function<void()>& leave = {}) {
    SCOPED_TRACE(name);
    const std::size_t descriptors = open_descriptors();
    const auto before = server_->rejected();
    const std::int64_t goal = turned_away() + count_;
    const auto begin = Clock::now();
    double longest = 0;
    for (int i = 0; i < count_ && !HasFailure(); ++i) {
      come();
      if (i % 16 == 0) longest = std::max(longest, exchange());
      most_resident_ = std::max(most_resident_, resident_bytes());
    }
    if (leave) leave();
    EXPECT_TRUE(run_until([&] { return turned_away() == goal; }))
        << turned_away() - goal;
    EXPECT_TRUE(run_until([&] { return open_descriptors() <= descriptors; }));
    std::string counted;
    for (const auto& [reason, now] : server_->rejected()) {
      const auto at = before.find(reason);
      const auto more = now - (at == before.end() ? 0 : at->second);
      if (more == 0) continue;
      EXPECT_TRUE(reasons.contains(reason)) << more << " for " << reason;
      counted += fmt::format(" {} {}", more, reason);
    }
    if (tell_) {
      std::printf("| %s | %d | %.1f | %.1f |%s |\n", name.c_str(), count_,
                  since(begin), longest * 1e3, counted.c_str());
    }
  }

  /// One after another, each until it has been turned away.
  void flood(const Kind& kind) {
    std::int64_t gone = turned_away();
    flood(kind.name, kind.reasons, [&] {
      write_and_close(kind.bytes());
      EXPECT_TRUE(run_until([&] { return turned_away() > gone; }));
      gone = turned_away();
    });
  }
  void write_and_close(const std::string& bytes) {
    tcp::socket socket = stranger();
    error_code ignored;
    asio::write(socket, asio::buffer(bytes), ignored);
    socket.close(ignored);
  }
  /// As many as `most` at once; each writes a byte whenever another comes.
  void flood_slowly(const std::string& name, std::size_t most,
                    const std::string& bytes) {
    std::deque<std::pair<tcp::socket, std::size_t>> open;
    flood(
        name, {"crowded", "deadline", "closed"},
        [&] {
          open.emplace_back(stranger(), 0);
          if (open.size() > most) open.pop_front();
          error_code ignored;
          for (auto& [socket, sent] : open) {
            if (sent == bytes.size()) continue;
            asio::write(socket, asio::buffer(&bytes[sent++], 1), ignored);
          }
          // The kernel holds but so many for a server that does nothing.
          context_.poll();
          context_.restart();
        },
        [&] { open.clear(); });
  }

  /// The most that memory grew beyond `resident` is little, and an agent still
  /// comes in.
  void nothing_is_left(std::int64_t resident) {
    const std::int64_t growth = most_resident_ - resident;
    if (tell_) std::printf("memory grew by %.1f MiB\n", growth / 1048576.0);
    // Sanitizers keep what was freed.
    if (!CATENA_SANITIZED) {
      EXPECT_LT(growth, kMostGrowth);
    }
    EXPECT_TRUE(join(kAgent)) << refusal_;
  }

  [[nodiscard]] static std::string hello() {
    return frame(
        AgentHandshake(secret(), {"job", kAgent, kIncarnation}, random_nonce())
            .hello(),
        kMaxGreetingBytes);
  }

  /// Agent 1 comes and goes; all that it wrote.
  std::string record_agent();

  int count_, said_ = 0;
  bool tell_ = false;
  std::int64_t most_resident_ = 0;
  std::shared_ptr<Connection> agent_;
};

/// The content of the next frame, without the coroutine of connection.h: what
/// is written has to be known.
std::string next(tcp::socket& socket, FrameReader& reader,
                 const std::function<void()>& run) {
  socket.non_blocking(true);
  for (;;) {
    if (auto content = reader.next()) return *content;
    std::string part(512, '\0');
    error_code error;
    part.resize(socket.read_some(asio::buffer(part), error));
    if (error && error != asio::error::would_block) return "";
    reader.add(part);
    run();
  }
}

std::string StrangersTest::record_agent() {
  std::string said;
  tcp::socket socket = stranger();
  FrameReader reader(kMaxGreetingBytes);
  AgentHandshake handshake(secret(), {"job", kAgent, kIncarnation},
                           random_nonce());
  const auto say = [&](const std::string& bytes) {
    said += bytes;
    asio::write(socket, asio::buffer(bytes));
  };
  const auto hear = [&] {
    return handshake.receive(next(socket, reader, [&] {
      context_.run_one_for(std::chrono::milliseconds(1));
      context_.restart();
    }));
  };
  say(frame(handshake.hello(), kMaxGreetingBytes));
  say(frame(hear().send, kMaxGreetingBytes));
  const HandshakeStep last = hear();
  EXPECT_TRUE(last.keys.has_value());
  if (!last.keys) return said;
  say(Sealer(last.keys->to_launcher)
          .seal(write(Report{0, 0, AgentReady{"r"}})));
  EXPECT_TRUE(run_until([&] { return events_.back() == "1 says r"; }));
  socket.close();
  EXPECT_TRUE(run_until([&] { return events_.back().starts_with("1 lost"); }));
  return said;
}

TEST_F(StrangersTest, ReachNothingAndLeaveNoTrace) {
  std::mt19937 random(18);
  const std::string recorded = record_agent();
  const std::string http = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
  // NCCL's magic, a type, an address.
  const std::string nccl("\x6c\x9d\x4b\xfc\xf2\xb9\x4a\x56\x01\x00\x00\x00",
                         12);
  const std::string tls("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11);
  const auto noise = [&] {
    std::string bytes(8 + random() % 2000, '\0');
    for (char& byte : bytes) byte = static_cast<char>(random());
    bytes[3] = static_cast<char>(bytes[3] | 1);
    return bytes;
  };
  const auto sealed = [] {
    return Sealer(secret('x')).seal(write(Report{0, 0, AgentReady{"x"}}));
  };
  const auto truncated = [&] {
    const std::string whole = hello();
    return whole.substr(0, 1 + random() % (whole.size() - 1));
  };
  const Kind kinds[] = {
      {"random bytes", noise, {"protocol"}},
      {"an HTTP request", [&] { return http; }, {"protocol"}},
      {"a TLS hello", [&] { return tls; }, {"protocol"}},
      {"a hello of NCCL", [&] { return nccl; }, {"protocol"}},
      {"a length of 2 GiB",
       [] { return std::string("\0\0\0\x80", 4); },
       {"protocol"}},
      {"a frame sealed with another key", sealed, {"malformed"}},
      {"a truncated frame", truncated, {"closed"}}};
  // What the first ones take stays: buffers, the log's line.
  exchange();
  const std::int64_t resident = most_resident_ = resident_bytes();
  for (const Kind& kind : kinds) flood(kind);
  flood("a handshake with another secret", {"proof"}, [&] {
    EXPECT_FALSE(join(kAgent, kIncarnation, secret('x')));
    EXPECT_THAT(refusal_, HasSubstr("another secret"));
  });
  std::int64_t gone = turned_away();
  flood("a recorded connection", {"proof"}, [&] {
    tcp::socket socket = stranger();
    asio::write(socket, asio::buffer(recorded));
    EXPECT_TRUE(run_until([&] { return turned_away() > gone; }));
    gone = turned_away();
  });
  flood_slowly("a hello, drop by drop", 2 * Server::kMostOfOneAddress, hello());
  flood_slowly("idle, 1,000 at once", kMostIdle, "");
  nothing_is_left(resident);
}

class TlsStrangersTest : public StrangersTest {
 protected:
  TlsStrangersTest() : StrangersTest(true, 50) {}

  /// Who speaks TLS, by this context, until he is turned away.
  void speak_tls(asio::ssl::context& context) {
    const std::int64_t gone = turned_away();
    asio::ssl::stream<tcp::socket> stream(stranger(), context);
    stream.async_handshake(asio::ssl::stream_base::client,
                           [](const error_code&) {});
    EXPECT_TRUE(run_until([&] { return turned_away() > gone; }));
    // Its handlers are run before it goes.
    stream.lowest_layer().close();
    context_.poll();
    context_.restart();
  }
};

TEST_F(TlsStrangersTest, ReachNothingAndLeaveNoTrace) {
  std::mt19937 random(18);
  // A record of six bytes that begins a greeting of 128 KiB, and more of it.
  const std::string claim("\x16\x03\x01\x00\x06\x01\x02\x00\x00\x03\x03", 11);
  const std::string more("\x16\x03\x01\x00\x06\x00\x00\x00\x00\x00\x00", 11);
  const auto noise = [&] {
    std::string bytes(8 + random() % 2000, '\0');
    for (char& byte : bytes) byte = static_cast<char>(random());
    return bytes;
  };
  const Kind kinds[] = {
      // Some look like the beginning of a record that is longer.
      {"random bytes", noise, {"tls", "closed"}},
      {"an HTTP request",
       [] { return std::string("GET / HTTP/1.1\r\n\r\n"); },
       {"tls"}},
      {"a hello without TLS", [] { return hello(); }, {"tls"}},
      {"a truncated TLS hello", [&] { return claim; }, {"closed"}}};
  auto other = tls_context(secret('x')), older = tls_context(secret());
  other.set_verify_mode(asio::ssl::verify_none);
  SSL_CTX_set_min_proto_version(older.native_handle(), TLS1_2_VERSION);
  SSL_CTX_set_max_proto_version(older.native_handle(), TLS1_2_VERSION);
  exchange();
  speak_tls(other);
  const std::int64_t resident = most_resident_ = resident_bytes();
  for (const Kind& kind : kinds) flood(kind);
  flood("TLS 1.2", {"tls"}, [&] { speak_tls(older); });
  flood("another certificate", {"certificate"}, [&] { speak_tls(other); });
  flood_slowly("a TLS hello, drop by drop", 2 * Server::kMostOfOneAddress,
               claim + more + more);
  flood_slowly("idle, 1,000 at once", kMostIdle, "");
  nothing_is_left(resident);
}

}  // namespace
}  // namespace catena::launcher::control
