#include <gmock/gmock.h>

#include <memory>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "parallel/tcp/meeting.h"
#include "runtime/base/error.h"

namespace catena::tcp {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using namespace std::chrono_literals;

const char* const kToken = "0123456789abcdef";

/// Who comes: a rank, and of how many it was told.
struct Guest {
  int rank, size;
  const char* token = kToken;
};

/// What became of them: what each threw, "" if nothing.
std::vector<std::string> meet(const std::vector<Guest>& guests,
                              std::chrono::duration<double> deadline) {
  auto server = std::make_unique<StoreServer>("127.0.0.1", 0, Secret(kToken));
  const Endpoint at{"127.0.0.1", server->port()};
  std::vector<std::string> said(guests.size());
  std::vector<std::string> names(guests.size());
  std::vector<std::unique_ptr<Meeting>> meetings(guests.size());
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < guests.size(); ++i) {
    auto serves = guests[i].rank == 0 ? std::move(server) : nullptr;
    threads.emplace_back([&, i, serves = std::move(serves)]() mutable {
      try {
        meetings[i] =
            std::make_unique<Meeting>(Meeting::Options{.rank = guests[i].rank,
                                                       .size = guests[i].size,
                                                       .at = at,
                                                       .token = guests[i].token,
                                                       .deadline = deadline},
                                      std::move(serves));
        names[i] = meetings[i]->name();
        EXPECT_EQ(meetings[i]->own_address(), "127.0.0.1");
      } catch (const Error& error) {
        said[i] = error.what();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (std::size_t i = 0; i < guests.size(); ++i) {
    if (!said[i].empty()) continue;
    EXPECT_EQ(names[i], names[0]);
    EXPECT_EQ(meetings[i]->ranks_here(), guests[i].size);
  }
  return said;
}

TEST(TcpMeetingTest, AllComeAndKnowWhoSharesTheirMachine) {
  for (const int size : {1, 2, 3, 4, 7, 8}) {
    SCOPED_TRACE(size);
    std::vector<Guest> guests;
    for (int rank = 0; rank < size; ++rank) guests.push_back({rank, size});
    for (const std::string& said : meet(guests, 30s)) EXPECT_EQ(said, "");
  }
}

TEST(TcpMeetingTest, ThoseThatAreMissingAreNamedToAllThatCame) {
  for (const std::string& said : meet({{0, 5}, {2, 5}, {3, 5}}, 1s)) {
    EXPECT_THAT(said, HasSubstr("2 of 5 ranks have not come within 1 s: rank "
                                "1, 4; look"));
  }
}

TEST(TcpMeetingTest, OfManyThatAreMissingAFewAreNamed) {
  EXPECT_THAT(meet({{0, 50}}, 300ms)[0],
              AllOf(HasSubstr("more than 8 of 50 ranks"),
                    HasSubstr("rank 1, 2, 3, 4, 5, 6, 7, 8, ...;")));
}

TEST(TcpMeetingTest, ARankThatIsThereTwiceIsTurnedAwayAndTheOthersGoOn) {
  const auto said = meet({{0, 2}, {1, 2}, {1, 2}}, 30s);
  EXPECT_EQ(said[0], "");
  EXPECT_NE(said[1].empty(), said[2].empty());
  EXPECT_THAT(said[1] + said[2],
              AllOf(HasSubstr("rank 1 is there already (process "),
                    HasSubstr("give every process a rank of its own")));
}

TEST(TcpMeetingTest, AnotherTokenIsRefusedAndMissedByName) {
  const auto said = meet({{0, 2}, {1, 2, "fedcba9876543210"}}, 1s);
  EXPECT_THAT(said[0], HasSubstr("rank 1; look"));
  EXPECT_THAT(said[1], HasSubstr("its token is not this one's"));
}

TEST(TcpMeetingTest, RanksThatWereToldOfDifferentSizesAreRefused) {
  const auto said = meet({{0, 2}, {1, 3}}, 1s);
  EXPECT_THAT(said[0] + said[1], AllOf(HasSubstr("was told that there are"),
                                       HasSubstr("3"), HasSubstr("2")));
}

TEST(TcpMeetingTest, WithoutRankZeroItIsSaidWhereItWasLookedFor) {
  const auto port = StoreServer("127.0.0.1", 0, Secret(kToken)).port();
  try {
    Meeting({.rank = 1,
             .size = 2,
             .at = {"127.0.0.1", port},
             .token = kToken,
             .deadline = 300ms});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kTimeout);
    EXPECT_THAT(error.what(),
                HasSubstr(fmt::format("127.0.0.1 port {}", port)));
    EXPECT_THAT(error.what(), HasSubstr("does rank 0 run?"));
  }
}

TEST(TcpMeetingTest, RankZeroServesAtAFreePortOfItsOwnMachine) {
  const StoreServer other("127.0.0.1", 0, Secret(kToken));
  for (const Endpoint& at :
       {Endpoint{"127.0.0.1", other.port()}, Endpoint{"192.0.2.1", 1}}) {
    try {
      Meeting({.rank = 0, .size = 1, .at = at, .token = kToken});
      FAIL();
    } catch (const Error& error) {
      EXPECT_THAT(error.what(),
                  AllOf(HasSubstr("of its own machine"), HasSubstr(at.host)));
    }
  }
}

TEST(EndpointTest, HostAndPortAreRead) {
  for (const auto& [text, host, port] :
       {std::tuple{"10.0.0.1:29500", "10.0.0.1", 29500},
        {"node-1.cluster:1", "node-1.cluster", 1},
        {"[::1]:65535", "::1", 65535}}) {
    const Endpoint endpoint = parse_endpoint(text);
    EXPECT_EQ(endpoint.host, host);
    EXPECT_EQ(endpoint.port, port);
  }
}

TEST(EndpointTest, WhatIsNoneIsRefused) {
  for (const char* text : {"", "host", "host:", ":1", "host:0", "host:65536",
                           "host:1x", "host:-1", "::1:5", "[]:1"}) {
    EXPECT_THROW((void)parse_endpoint(text), Error) << text;
  }
}

TEST(EndpointTest, NamesBecomeNumericAddresses) {
  EXPECT_EQ(numeric_address("127.0.0.1"), "127.0.0.1");
  EXPECT_THAT(numeric_address("localhost"),
              ::testing::AnyOf("127.0.0.1", "::1"));
  EXPECT_THROW((void)numeric_address("no.such.host.invalid"), Error);
}

}  // namespace
}  // namespace catena::tcp
