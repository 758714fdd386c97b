#include "parallel/communicator.h"

#include <gmock/gmock.h>

#include <cmath>
#include <numeric>
#include <thread>

#include "runtime/base/random.h"
#include "tests/parallel/communicator_fixture.h"

namespace catena::testing {

namespace {

/// What rank `from` sends to rank `to` in round `round`: uneven, some empty.
std::vector<std::int32_t> message(int from, int to, int round) {
  const int length = (from * 7 + to * 13 + round * 5) % 11 == 0
                         ? 0
                         : (from * 31 + to * 17 + round * 101) % 3000;
  std::vector<std::int32_t> words(static_cast<std::size_t>(length));
  std::iota(words.begin(), words.end(), from * 1000000 + to * 10000 + round);
  return words;
}

struct Messages {
  Messages(int rank, int size, int round) {
    for (int r = 0; r < size; ++r) {
      out.push_back(message(rank, r, round));
      expected.push_back(message(r, rank, round));
      in.emplace_back(expected.back().size(), -1);
    }
    for (std::size_t r = 0; r < out.size(); ++r) {
      send.push_back({out[r].data(), bytes(out[r])});
      receive.push_back({in[r].data(), bytes(in[r])});
    }
  }
  static std::int64_t bytes(const std::vector<std::int32_t>& words) {
    return static_cast<std::int64_t>(words.size() * sizeof(std::int32_t));
  }
  std::vector<std::vector<std::int32_t>> out, in, expected;
  std::vector<Communicator::Part> send, receive;
};

TEST_P(CommunicatorTest, AllToAllVBringsEveryPart) {
  run([](Communicator& all) {
    for (int round = 0; round < 5; ++round) {
      Messages m(all.rank(), all.size(), round);
      wait(all.all_to_all_v({.phase = Phase::kDispatch}, m.send, m.receive));
      EXPECT_EQ(m.in, m.expected) << "rank " << all.rank();
    }
  });
}

TEST_P(CommunicatorTest, ManyCollectivesAreUnderWayAtOnce) {
  run([](Communicator& all) {
    constexpr int kRounds = 50;
    std::vector<std::unique_ptr<Messages>> messages;
    std::vector<Pending> pending;
    std::vector<std::vector<double>> sums(
        kRounds, std::vector<double>(3000, all.rank() + 1.0));
    for (int round = 0; round < kRounds; ++round) {
      auto& sum = sums[static_cast<std::size_t>(round)];
      pending.push_back(all.all_reduce(
          {.phase = Phase::kGradients},
          {sum.data(),
           DType::kFloat64,
           {round % 2 == 0 ? 3000 : static_cast<std::int64_t>(7)}}));
      messages.push_back(
          std::make_unique<Messages>(all.rank(), all.size(), round));
      pending.push_back(
          all.all_to_all_v({.chunk = static_cast<std::int16_t>(round)},
                           messages.back()->send, messages.back()->receive));
    }
    // In another order than they were issued in, and than other ranks wait in.
    for (std::size_t i = 0; i < pending.size(); ++i) {
      wait(pending[(i * 37 + static_cast<std::size_t>(all.rank()) * 11) %
                   pending.size()]);
    }
    for (const auto& m : messages) EXPECT_EQ(m->in, m->expected);
    const double expected = all.size() * (all.size() + 1) / 2.0;
    for (int round = 0; round < kRounds; ++round) {
      EXPECT_EQ(sums[static_cast<std::size_t>(round)][6], expected);
    }
  });
}

TEST_P(CommunicatorTest, OwnPartMayStayWhereItIs) {
  run([](Communicator& all) {
    Messages m(all.rank(), all.size(), 3);
    const auto me = static_cast<std::size_t>(all.rank());
    m.receive[me] = m.send[me];
    wait(all.all_to_all_v({}, m.send, m.receive));
    m.in[me] = m.expected[me];
    EXPECT_EQ(m.in, m.expected);
  });
}

TEST_P(CommunicatorTest, AllGatherVGathersUnevenParts) {
  run([](Communicator& all) {
    std::vector<std::vector<std::int32_t>> expected, words;
    std::vector<Communicator::Part> parts;
    for (int r = 0; r < all.size(); ++r) {
      expected.push_back(message(r, r, 1));
      words.push_back(r == all.rank() ? expected.back()
                                      : std::vector<std::int32_t>(
                                            expected.back().size(), -1));
    }
    for (auto& part : words) {
      parts.push_back({part.data(), Messages::bytes(part)});
    }
    wait(all.all_gather_v({}, parts));
    EXPECT_EQ(words, expected);
  });
}

TEST_P(CommunicatorTest, GatherVGathersUnevenPartsAtTheRoot) {
  run([](Communicator& all) {
    for (int root = 0; root < all.size(); ++root) {
      std::vector<std::vector<std::int32_t>> expected, words;
      std::vector<Communicator::Part> parts;
      for (int r = 0; r < all.size(); ++r) {
        expected.push_back(message(r, root, 2));
        words.push_back(r == all.rank() ? expected.back()
                                        : std::vector<std::int32_t>(
                                              expected.back().size(), -1));
      }
      for (auto& part : words) {
        parts.push_back({part.data(), Messages::bytes(part)});
      }
      wait(all.gather_v({}, root, parts));
      if (all.rank() == root) {
        EXPECT_EQ(words, expected);
      }
    }
  });
}

/// Values whose sum depends on the order of its terms.
template <class T>
std::vector<T> terms(int rank, std::int64_t count) {
  const Random random(1, static_cast<std::uint64_t>(rank));
  std::vector<T> values;
  for (std::int64_t i = 0; i < count; ++i) {
    values.push_back(static_cast<T>(
        random.normal(static_cast<std::uint64_t>(i)) * std::pow(10, i % 7)));
  }
  return values;
}

template <class T>
std::vector<T> sum_in_order(int size, std::int64_t count) {
  std::vector<T> sum = terms<T>(0, count);
  for (int r = 1; r < size; ++r) {
    const std::vector<T> other = terms<T>(r, count);
    for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += other[i];
  }
  return sum;
}

template <class T>
void check_all_reduce(Communicator& all, std::int64_t count) {
  std::vector<T> values = terms<T>(all.rank(), count);
  wait(all.all_reduce({}, {values.data(), DTypeOf<T>::value, {count}}));
  EXPECT_EQ(values, sum_in_order<T>(all.size(), count))
      << "rank " << all.rank() << ", " << count << " elements";
}

TEST_P(CommunicatorTest, AllReduceSumsInTheOrderOfRanksToTheBit) {
  run([](Communicator& all) {
    for (const std::int64_t count : {0, 1, 5, 1000, 2049, 30001}) {
      check_all_reduce<float>(all, count);
      check_all_reduce<double>(all, count);
      check_all_reduce<std::int64_t>(all, count);
      check_all_reduce<std::int32_t>(all, count);
    }
  });
}

TEST_P(CommunicatorTest, ReduceScatterSumsTheOwnRun) {
  run([](Communicator& all) {
    std::vector<std::int64_t> counts;
    for (std::int64_t r = 0; r < all.size(); ++r) {
      counts.push_back(r % 3 == 1 ? 0 : 1500 * r + 1);
    }
    const std::int64_t count =
        std::accumulate(counts.begin(), counts.end(), std::int64_t{0});
    const auto me = static_cast<std::size_t>(all.rank());
    const std::int64_t begin = std::accumulate(
        counts.begin(), counts.begin() + all.rank(), std::int64_t{0});
    std::vector<float> values = terms<float>(all.rank(), count);
    wait(all.reduce_scatter({}, {values.data(), DType::kFloat32, {count}},
                            counts));
    const std::vector<float> sum = sum_in_order<float>(all.size(), count);
    for (std::int64_t i = begin; i < begin + counts[me]; ++i) {
      ASSERT_EQ(values[static_cast<std::size_t>(i)],
                sum[static_cast<std::size_t>(i)]);
    }
  });
}

TEST_P(CommunicatorTest, BroadcastComesFromTheRoot) {
  run([](Communicator& all) {
    for (int root = 0; root < all.size(); ++root) {
      std::vector<std::int32_t> words = message(all.rank(), 5, 1);
      words.resize(500);
      std::vector<std::int32_t> expected = message(root, 5, 1);
      expected.resize(500);
      wait(all.broadcast({}, root, words.data(), Messages::bytes(words)));
      EXPECT_EQ(words, expected);
    }
  });
}

TEST_P(CommunicatorTest, NobodyLeavesABarrierBeforeAllAreThere) {
  run([](Communicator& all) {
    std::int64_t early = 0;
    for (int round = 0; round < 20; ++round) {
      if (round % all.size() == all.rank()) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
        early = round;
      }
      wait(all.barrier({}));
      wait(all.broadcast({}, round % all.size(), &early, sizeof early));
      EXPECT_EQ(early, round);
    }
  });
}

TEST_P(CommunicatorTest, GroupsExchangeBesideTheWorld) {
  run([](Transport& transport) {
    Communicator world(transport, kLong);
    std::vector<int> members;
    for (int r = transport.rank() % 2; r < transport.size(); r += 2) {
      members.push_back(r);
    }
    Communicator group(transport, members, kLong);
    EXPECT_EQ(group.members()[static_cast<std::size_t>(group.rank())],
              transport.rank());
    std::vector<double> all(4000, transport.rank()), some = all;
    const Pending first =
        world.all_reduce({}, {all.data(), DType::kFloat64, {4000}});
    const Pending second =
        group.all_reduce({}, {some.data(), DType::kFloat64, {4000}});
    wait(second);
    wait(first);
    EXPECT_EQ(all[3999], transport.size() * (transport.size() - 1) / 2.0);
    EXPECT_EQ(some[3999], std::accumulate(members.begin(), members.end(), 0.0));
  });
}

// The last rank answers in one group when the sum in the other is there, whose
// second half needs all ranks, which wait for that answer.
TEST_P(CommunicatorTest, AWaitInOneGroupMovesOnTheOther) {
  run([](Transport& transport) {
    Communicator world(transport, kLong), group(transport, kLong);
    const int last = transport.size() - 1;
    std::vector<double> x(4000, transport.rank()), y = x;
    const Pending sum =
        world.all_reduce({}, {x.data(), DType::kFloat64, {4000}});
    const Pending second_sum =
        world.all_reduce({}, {y.data(), DType::kFloat64, {4000}});
    std::int64_t answer = transport.rank();
    if (transport.rank() == last) wait(second_sum);
    wait(group.broadcast({}, last, &answer, sizeof answer));
    EXPECT_EQ(answer, last);
    wait(second_sum);
    wait(sum);
    EXPECT_EQ(x, std::vector<double>(4000, transport.size() * last / 2.0));
    EXPECT_EQ(y, x);
  });
}

TEST_P(CommunicatorTest, TrafficIsCountedByPhase) {
  run([](Communicator& all) {
    Messages m(all.rank(), all.size(), 1);
    std::int64_t bytes = 0;
    for (int r = 0; r < all.size(); ++r) {
      if (r == all.rank()) continue;
      bytes += m.send[static_cast<std::size_t>(r)].bytes;
    }
    wait(all.barrier({}));
    static_cast<void>(all.transport().take_traffic());
    constexpr std::chrono::milliseconds kTime(30);
    constexpr double kSeconds = 0.03;
    const Pending sent =
        all.all_to_all_v({.phase = Phase::kDispatch}, m.send, m.receive);
    std::this_thread::sleep_for(kTime);  // meanwhile
    wait(sent);
    if (all.rank() == all.size() - 1) std::this_thread::sleep_for(kTime);
    wait(all.barrier({}));  // for the last
    const Traffic traffic = all.transport().take_traffic();
    const PhaseTraffic& dispatch = traffic[Phase::kDispatch];
    EXPECT_EQ(dispatch.collectives, 1);
    EXPECT_EQ(dispatch.sent_bytes, bytes);
    EXPECT_EQ(dispatch.across_bytes, 0);
    EXPECT_GE(dispatch.overlapped_seconds, kSeconds);
    EXPECT_EQ(traffic[Phase::kControl].collectives, 1);
    EXPECT_EQ(traffic[Phase::kControl].sent_bytes, 0);
    EXPECT_EQ(traffic.total().collectives, 2);
    EXPECT_EQ(all.transport().take_traffic().total().collectives, 0);
  });
}

TEST_P(CommunicatorTest, BytesToOtherNodesAreCountedApart) {
  run([](Communicator& all) {
    for (const int of_node : {1, 2, 3, all.size()}) {
      all.transport().set_ranks_per_node(of_node);
      Messages m(all.rank(), all.size(), 1);
      std::int64_t bytes = 0;
      for (int r = 0; r < all.size(); ++r) {
        if (r / of_node == all.rank() / of_node) continue;
        bytes += m.send[static_cast<std::size_t>(r)].bytes;
      }
      wait(all.all_to_all_v({}, m.send, m.receive));
      EXPECT_EQ(all.transport().take_traffic().total().across_bytes, bytes)
          << of_node;
    }
  });
}

TEST_P(CommunicatorTest, WhatIsGoneLeavesItsLanesToOthers) {
  run([](Communicator& all) {
    std::vector<float> x(1000);
    for (int i = 0; i < 2 * Transport::kLanes; ++i) {
      std::fill(x.begin(), x.end(), static_cast<float>(i));
      Communicator next(all.transport(), kLong);
      wait(next.broadcast({}, i % all.size(), x.data(), 4000));
      wait(next.all_reduce({}, {x.data(), DType::kFloat32, {1000}}));
      EXPECT_EQ(x,
                std::vector<float>(1000, static_cast<float>(i * all.size())));
    }
    wait(all.barrier({}));
  });
}

INSTANTIATE_TEST_SUITE_P(Ranks, CommunicatorTest,
                         ::testing::ValuesIn(rank_cases()),
                         [](const auto& info) {
                           return fmt::format("{}_{}", info.param.runner.name,
                                              info.param.size);
                         });

}  // namespace
}  // namespace catena::testing
