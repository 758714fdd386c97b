// Ranks that do not do their part. Instantiated in communicator_test.cc.

#include <thread>

#include "runtime/base/error.h"
#include "tests/parallel/collective_calls.h"
#include "tests/parallel/communicator_fixture.h"

namespace catena::testing {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;

constexpr Communicator::Deadline kShort(0.1);

TEST_P(CommunicatorTest, AStalledRankIsNamedWithinTheDeadline) {
  if (size() == 1) return;
  if (!no_faults().empty()) GTEST_SKIP() << no_faults();
  for (const auto& [name, call] : kCalls) {
    try {
      run([&, &call = call](Transport& transport) {
        Communicator all(transport, kShort);
        std::vector<float> x(20000, 1);
        const int last = all.size() - 1;
        if (all.rank() == last) {
          std::this_thread::sleep_for(3 * kShort);
        }
        call(all, x);
      });
      FAIL() << name;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kTimeout) << error.what();
      EXPECT_THAT(error.what(), HasSubstr(whole_name(name)));
      // On a busy machine others may come late, too.
      EXPECT_THAT(error.what(), ContainsRegex(fmt::format(
                                    "for rank ([0-9]+, )*{} in", size() - 1)));
    }
  }
}

// The others wait for the root, which comes a little later and then waits for
// the last rank, in another collective.
TEST_P(CommunicatorTest, ARootThatWaitsIsNotTheOneThatIsNamed) {
  if (size() < 3) return;
  if (!no_faults().empty()) GTEST_SKIP() << no_faults();
  // The others are patient for a quarter longer.
  constexpr Communicator::Deadline kDeadline(CATENA_SANITIZED ? 2 : 0.6),
      kLate(0.02);
  for (const char* name : {"gather_v", "broadcast"}) {
    try {
      run([&](Transport& transport) {
        Communicator first(transport, kDeadline), all(transport, kDeadline);
        const int last = all.size() - 1;
        constexpr std::size_t kBytes = std::size_t{1} << 17;
        std::vector<std::byte> x(kBytes * static_cast<std::size_t>(all.size()));
        std::vector<Communicator::Part> parts;
        for (std::size_t at = 0; at < x.size(); at += kBytes) {
          parts.push_back({x.data() + at, kBytes});
        }
        if (all.rank() == last) {
          std::this_thread::sleep_for(2 * kDeadline);
          return;
        }
        if (all.rank() == 0) std::this_thread::sleep_for(kLate);
        const Pending gathered = first.gather_v({.layer = 5}, 0, parts);
        if (all.rank() == 0) {
          wait(gathered);
        } else if (std::string_view(name) == "gather_v") {
          wait(all.gather_v({}, 0, parts));
        } else {
          wait(all.broadcast({}, 0, x.data(), 8));
        }
      });
      FAIL() << name;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kTimeout) << error.what();
      EXPECT_THAT(error.what(),
                  HasSubstr(fmt::format("rank 0 has waited {:.3g} s "
                                        "for rank {}",
                                        kDeadline.count(), size() - 1)));
    }
  }
}

TEST_P(CommunicatorTest, ARankThatEndedIsNamedAtOnce) {
  if (size() == 1) return;
  if (!no_faults().empty()) GTEST_SKIP() << no_faults();
  for (const auto& [name, call] : kCalls) {
    try {
      run([&, &call = call](Transport& transport) {
        Communicator all(transport, kLong);
        std::vector<float> x(20000, 1);
        if (all.rank() != all.size() - 1) call(all, x);
      });
      FAIL() << name;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kCommunication) << error.what();
      EXPECT_THAT(error.what(),
                  HasSubstr(fmt::format("rank {} has ended", size() - 1)));
      EXPECT_THAT(error.what(), HasSubstr(whole_name(name)));
    }
  }
}

TEST_P(CommunicatorTest, TheRankThatThrewIsTheOneThatIsReported) {
  if (size() == 1) return;
  if (!no_faults().empty()) GTEST_SKIP() << no_faults();
  try {
    run([&](Transport& transport) {
      Communicator all(transport, kLong);
      std::vector<float> x(20000, 1);
      if (all.rank() == 1) fail(ErrorKind::kData, "a bad shard");
      kCalls[0].second(all, x);
    });
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kData);
    EXPECT_THAT(error.what(), HasSubstr("a bad shard"));
  }
}

TEST_P(CommunicatorTest, RanksInDifferentCollectivesNotice) {
  if (size() == 1) return;
  if (!no_faults().empty()) GTEST_SKIP() << no_faults();
  for (const bool other_size : {false, true}) {
    try {
      run([&](Transport& transport) {
        Communicator all(transport, kLong);
        std::vector<float> x(20000, 1);
        Tag tag{.phase = Phase::kDispatch, .layer = 3, .iteration = 1};
        std::int64_t bytes = 400;
        if (all.rank() == 0) {
          if (other_size) {
            bytes = 404;
          } else {
            tag.layer = 4;
          }
        }
        wait(all.broadcast(tag, 0, x.data(), bytes));
      });
      FAIL();
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kCommunication);
      EXPECT_THAT(error.what(), HasSubstr("not in step"));
      EXPECT_THAT(error.what(),
                  HasSubstr(other_size ? "404 bytes" : "layer 4"));
      EXPECT_THAT(error.what(), HasSubstr("layer 3, iteration 1"));
    }
  }
}

}  // namespace
}  // namespace catena::testing
