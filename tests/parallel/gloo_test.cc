#include <gmock/gmock.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <numeric>
#include <thread>

#include "parallel/gloo/transport.h"
#include "runtime/base/error.h"
#include "tests/parallel/collective_calls.h"
#include "tests/parallel/processes.h"

/// What communicator_test.cc cannot ask: real deaths, of processes.

namespace catena::testing {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using namespace std::chrono_literals;

constexpr Communicator::Deadline kLong(60), kShort(1);

MakeTransport make(gloo::Options options = {}) {
  return [options](int rank, int size, Store& store, const std::string&) {
    return gloo::connect(rank, size, store, options);
  };
}

std::vector<Outcome> run(int size, const Processes::Work& work,
                         const MakeTransport& make_one = make()) {
  Processes processes(size, work, make_one);
  return processes.wait_for_all();
}

class GlooTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!gloo::available()) {
      GTEST_SKIP() << "built without Gloo (libgloo-dev)";
    }
  }
};

/// Collectives until something ends that: a signal hits the victim before its
/// fifth, or at some time after, wherever it is then.
std::vector<Outcome> strike(int size, int victim, int signal, bool inside,
                            const Call& call, Communicator::Deadline deadline) {
  Processes processes(
      size,
      [&](Transport& transport) {
        Communicator all(transport, deadline);
        std::vector<float> x(400000, 1);
        for (int round = 0;; ++round) {
          if (transport.rank() == victim && round == 5) {
            if (inside) {
              std::thread([signal] {
                std::this_thread::sleep_for(5ms);
                kill(getpid(), signal);
              }).detach();
            } else {
              kill(getpid(), signal);
            }
          }
          call(all, x);
        }
      },
      make());
  return processes.wait_for_all(victim);
}

TEST_F(GlooTest, ARankThatIsKilledIsNamedByAllTheOthers) {
  for (const auto& [name, call] : kCalls) {
    for (const bool inside : {false, true}) {
      constexpr int kVictim = 2;
      const auto ends = strike(4, kVictim, SIGKILL, inside, call, kLong);
      for (int r = 0; r < 4; ++r) {
        const Outcome& end = ends[static_cast<std::size_t>(r)];
        if (r == kVictim) {
          EXPECT_EQ(end.signal, SIGKILL);
          continue;
        }
        ASSERT_TRUE(end.threw) << name;
        EXPECT_EQ(end.kind, ErrorKind::kCommunication) << end.text;
        EXPECT_THAT(end.text, HasSubstr("rank 2 has died")) << name;
        EXPECT_LT(end.seconds, 20) << name;
      }
    }
  }
}

TEST_F(GlooTest, RankZeroMayDieToo) {
  const auto ends = strike(3, 0, SIGKILL, false, kCalls[3].second, kLong);
  for (const int r : {1, 2}) {
    const Outcome& end = ends[static_cast<std::size_t>(r)];
    ASSERT_TRUE(end.threw);
    EXPECT_THAT(end.text, HasSubstr("rank 0 has died"));
  }
}

TEST_F(GlooTest, ARankMayDieOrGiveUpAsSoonAsItHasJoined) {
  for (int trial = 0; trial < 6; ++trial) {
    constexpr int kVictim = 3;
    const bool dies = trial % 2 == 0;
    Processes processes(
        4,
        [&](Transport& transport) {
          if (transport.rank() == kVictim) {
            if (dies) raise(SIGKILL);
            fail(ErrorKind::kData, "a bad shard");
          }
          Communicator all(transport, kLong);
          wait(all.barrier({}));
        },
        make());
    const auto ends = processes.wait_for_all(kVictim);
    for (const std::size_t r : {0U, 1U, 2U}) {
      EXPECT_THAT(ends[r].text, HasSubstr(dies ? "rank 3 has died"
                                               : "rank 3 gave up: a bad"));
    }
  }
}

TEST_F(GlooTest, ARankThatStandsStillIsNamedAtTheDeadline) {
  for (const auto& [name, call] : kCalls) {
    constexpr int kVictim = 2;  // the root of the broadcast, not of gather_v
    const auto ends = strike(3, kVictim, SIGSTOP, false, call, kShort);
    int timeouts = 0;
    for (const int r : {0, 1}) {
      const Outcome& end = ends[static_cast<std::size_t>(r)];
      ASSERT_TRUE(end.threw) << name;
      // Another may wait for what the victim had no time to send.
      EXPECT_THAT(end.text, ContainsRegex("s for rank ([0-9], )?2 in")) << name;
      EXPECT_THAT(end.text, HasSubstr(name));
      EXPECT_GE(end.seconds, 1);
      EXPECT_LT(end.seconds, 20);
      timeouts += end.kind == ErrorKind::kTimeout ? 1 : 0;
    }
    EXPECT_GE(timeouts, 1);
  }
}

TEST_F(GlooTest, LargeMessagesArriveWhole) {
  const auto ends = run(2, [](Transport& transport) {
    Communicator all(transport, kLong);
    // Beyond what sockets hold, many at a time and beyond the window.
    constexpr int kMessages = 40;
    constexpr std::size_t kWords = 1 << 19;
    std::vector<std::vector<std::int64_t>> x;
    std::vector<Pending> pending;
    for (std::size_t m = 0; m < kMessages; ++m) {
      x.emplace_back(kWords + m);
      if (transport.rank() == 0) {
        std::iota(x.back().begin(), x.back().end(), m);
      }
    }
    for (auto& words : x) {
      pending.push_back(all.broadcast(
          {}, 0, words.data(), static_cast<std::int64_t>(words.size() * 8)));
    }
    for (const Pending& one : pending) wait(one);
    for (std::size_t m = 0; m < kMessages; ++m) {
      EXPECT_EQ(x[m].front(), static_cast<std::int64_t>(m));
      EXPECT_EQ(x[m][kWords / 2], static_cast<std::int64_t>(kWords / 2 + m));
      EXPECT_EQ(x[m].back(), static_cast<std::int64_t>(kWords + 2 * m - 1));
    }
  });
  for (const Outcome& end : ends) EXPECT_FALSE(end.threw) << end.text;
}

TEST_F(GlooTest, ASenderNeedsNothingOfAReceiverThatComputes) {
  const auto ends = run(2, [](Transport& transport) {
    Communicator all(transport, kLong);
    std::vector<double> x(100000, transport.rank());
    wait(all.barrier({}));
    const auto begin = std::chrono::steady_clock::now();
    const Pending sent = all.broadcast({}, 0, x.data(), 800000);
    if (transport.rank() == 1) std::this_thread::sleep_for(3s);
    wait(sent);
    if (transport.rank() == 0) {
      EXPECT_LT(std::chrono::steady_clock::now() - begin, 2s);
    }
    EXPECT_EQ(x[99999], 0);
    wait(all.barrier({}));
  });
  for (const Outcome& end : ends) EXPECT_FALSE(end.threw) << end.text;
}

TEST_F(GlooTest, ARankMayEndBeforeItsShortMessagesAreTaken) {
  const auto ends = run(3, [](Transport& transport) {
    Communicator all(transport, kLong);
    wait(all.barrier({}));
    std::array<std::int64_t, 40> x{};
    if (transport.rank() == 0) {
      x.fill(7);
    } else {
      // Beyond the two seconds for which an end waits for the others'.
      std::this_thread::sleep_for(3s);
    }
    for (std::int64_t& word : x) {
      const Pending sent = all.broadcast({}, 0, &word, sizeof word);
      if (transport.rank() != 0 || &word < &x[8]) wait(sent);
    }
    if (transport.rank() == 0) {
      wait(all.broadcast({}, 0, x.data(), sizeof x));
      return;
    }
    for (const std::int64_t word : x) EXPECT_EQ(word, 7);
    wait(all.broadcast({}, 0, x.data(), sizeof x));
  });
  for (const Outcome& end : ends) EXPECT_FALSE(end.threw) << end.text;
}

TEST_F(GlooTest, ARankThatDoesNotComeIsNamed) {
  const auto options = gloo::Options{.deadline = 1s};
  const auto ends = run(
      3, [](Transport&) {},
      [&](int rank, int size, Store& store,
          const std::string&) -> std::unique_ptr<Transport> {
        if (rank == 2) {
          std::this_thread::sleep_for(4s);
          fail(ErrorKind::kData, "too late");
        }
        return gloo::connect(rank, size, store, options);
      });
  for (const int r : {0, 1}) {
    const Outcome& end = ends[static_cast<std::size_t>(r)];
    ASSERT_TRUE(end.threw);
    EXPECT_EQ(end.kind, ErrorKind::kTimeout) << end.text;
    EXPECT_THAT(end.text, HasSubstr("rank 2 has not come"));
    EXPECT_LT(end.seconds, 4);
  }
}

/// A store of one process that nobody else writes to.
class OwnStore final : public Store {
 public:
  void set(std::string_view, std::string_view) override {}
  [[nodiscard]] std::string get(std::string_view key,
                                std::chrono::duration<double>) override {
    fail(ErrorKind::kTimeout, "no {}", key);
  }
};

TEST_F(GlooTest, AddressesAreChecked) {
  OwnStore store;
  for (const char* address : {"localhost", "nonsense", "", "192.0.2.1"}) {
    try {
      (void)gloo::connect(0, 2, store, {.address = address});
      FAIL() << address;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kConfig) << error.what();
    }
  }
}

TEST_F(GlooTest, AStrangerInPlaceOfARankIsFoundOut) {
  // Takes what a rank left in the store for another, and what it sends is not
  // what it was to say.
  class Liar final : public Store {
   public:
    explicit Liar(Store& store) : store_(store) {}
    void set(std::string_view key, std::string_view value) override {
      store_.set(key, value);
    }
    [[nodiscard]] std::string get(
        std::string_view key, std::chrono::duration<double> deadline) override {
      std::string value = store_.get(key, deadline);
      value[0] = static_cast<char>(value[0] + 1);
      return value;
    }

   private:
    Store& store_;
  };
  const auto ends = run(
      2, [](Transport&) {},
      [](int rank, int size, Store& store,
         const std::string&) -> std::unique_ptr<Transport> {
        Liar liar(store);
        return gloo::connect(rank, size, rank == 1 ? liar : store,
                             {.deadline = 5s});
      });
  ASSERT_TRUE(ends[0].threw);
  EXPECT_THAT(ends[0].text, HasSubstr("as rank 1 is another"));
}

TEST(GlooAbsentTest, SaysWhatToInstall) {
  if (gloo::available()) GTEST_SKIP() << "built with Gloo";
  OwnStore store;
  try {
    (void)gloo::connect(0, 1, store, {});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kUnsupported);
    EXPECT_THAT(error.what(), HasSubstr("libgloo-dev"));
  }
}

}  // namespace
}  // namespace catena::testing
