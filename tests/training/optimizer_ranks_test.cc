// What the optimizer exchanges: how often, and who owns what.

#include <gtest/gtest.h>

#include <array>
#include <map>
#include <mutex>

#include "parallel/local/transport.h"
#include "runtime/base/random.h"
#include "training/optimizer.h"

namespace catena {
namespace {

constexpr std::array kWorlds{1, 2, 3, 4, 7, 8};

class OptimizerRanksTest : public testing::Test {
 protected:
  /// Three groups: one matrix; matrices and vectors; fewer elements than ranks.
  static void add_parameters(ParameterSet& set) {
    const auto add = [&](const char* name, const Shape& shape, bool matrix) {
      set.add({.shape = shape,
               .parts = {{name, 0, shape}},
               .range = 1,
               .matrix = matrix});
    };
    add("embedding", {67, 3}, true);
    set.add_group([&] {
      add("norm", {20}, false);
      add("a", {9, 20}, true);
      add("router", {5, 20}, false);
      add("b", {20, 1}, true);
    });
    add("last", {3}, false);
  }
  static constexpr std::int64_t kGroups = 3;

  /// A rank's gradient of an element: sums depend on their order.
  static float gradient(std::size_t parameter, std::int64_t element, int rank) {
    return static_cast<float>(
        Random(9, parameter)
            .normal(static_cast<std::uint64_t>(element * 16 + rank)));
  }
  static void write_gradients(ParameterSet& set, int rank) {
    for (std::size_t i = 0; i < set.size(); ++i) {
      std::vector<double> values;
      for (std::int64_t e = 0; e < set[i].elements(); ++e) {
        values.push_back(gradient(i, e, rank));
      }
      write_values(set.backend(), set[i].gradient(), values);
    }
  }
  static float sum(std::size_t parameter, std::int64_t element, int world) {
    float sum = 0;
    for (int rank = 0; rank < world; ++rank) {
      sum += gradient(parameter, element, rank);
    }
    return sum;
  }

  /// work(set, ranks, optimizer) on every rank, gradients not yet taken.
  template <class Work>
  static void run(int world, DType dtype, const Work& work) {
    local::run_ranks(world, [&](Transport& transport) {
      const auto backend = make_cpu_backend(1);
      Ranks ranks(transport, *backend, make_mesh(world, 1, 1),
                  Placement::contiguous(1, 1), Communicator::Deadline(60));
      ParameterSet set(*backend, {dtype});
      add_parameters(set);
      set.initialize(1);
      write_gradients(set, transport.rank());
      Optimizer optimizer(set, {}, &ranks);
      work(set, ranks, optimizer);
    });
  }
  static void take_all(Optimizer& optimizer) {
    for (std::size_t group = kGroups; group-- > 0;) optimizer.take(group);
    optimizer.sum_gradients();
  }
};

TEST_F(OptimizerRanksTest, SumsEveryElementOnceInTheOrderOfRanks) {
  for (const int world : kWorlds) {
    SCOPED_TRACE(world);
    std::mutex mutex;
    std::vector<std::vector<int>> owned;
    run(world, DType::kFloat32,
        [&](ParameterSet& set, Ranks&, Optimizer& optimizer) {
          take_all(optimizer);
          const std::lock_guard lock(mutex);
          owned.resize(set.size());
          for (std::size_t i = 0; i < optimizer.sections(); ++i) {
            const std::size_t p = optimizer.parameter(i);
            const auto values = read_values(set.backend(), set[p].gradient());
            const Optimizer::Run run = optimizer.run(i);
            owned[p].resize(values.size());
            for (std::int64_t e = run.begin; e < run.begin + run.count; ++e) {
              const auto at = static_cast<std::size_t>(e);
              ++owned[p][at];
              EXPECT_EQ(values[at], sum(p, e, world)) << p << ", element " << e;
            }
          }
        });
    for (const auto& of_parameter : owned) {
      EXPECT_EQ(of_parameter, std::vector<int>(of_parameter.size(), 1));
    }
  }
}

TEST_F(OptimizerRanksTest, AGroupIsOneSumAndOneGathering) {
  for (const int world : kWorlds) {
    run(world, DType::kFloat32,
        [&](ParameterSet&, Ranks& ranks, Optimizer& optimizer) {
          take_all(optimizer);
          optimizer.update(0.1, 1, 1);
          const Traffic traffic = ranks.take_traffic();
          const std::int64_t expected = world == 1 ? 0 : kGroups;
          EXPECT_EQ(traffic[Phase::kGradients].collectives, expected);
          EXPECT_EQ(traffic[Phase::kParameters].collectives, expected);
        });
  }
}

TEST_F(OptimizerRanksTest, MatricesTravelInTheTypeOfProducts) {
  for (const int world : kWorlds) {
    std::map<DType, std::int64_t> bytes, exchanges;
    std::int64_t vectors = 0;
    for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
      std::mutex mutex;
      run(world, dtype, [&](ParameterSet& set, Ranks& ranks, Optimizer& o) {
        take_all(o);
        o.update(0.1, 1, 1);
        const Traffic traffic = ranks.take_traffic();
        const std::lock_guard lock(mutex);
        bytes[dtype] += traffic[Phase::kParameters].sent_bytes;
        exchanges[dtype] = traffic[Phase::kParameters].collectives;
        vectors = 0;
        for (const ParameterBlock& block : set.blocks()) {
          if (dtype != DType::kBFloat16) continue;
          vectors +=
              block.master.view().bytes() - 2 * block.copy.view().bytes();
        }
      });
    }
    // Every rank gets what it does not own.
    vectors *= world - 1;
    EXPECT_EQ(bytes[DType::kBFloat16] - vectors,
              (bytes[DType::kFloat32] - vectors) / 2)
        << world << " ranks";
    EXPECT_EQ(exchanges[DType::kFloat32], world == 1 ? 0 : kGroups);
    // The second group has matrices and vectors.
    EXPECT_EQ(exchanges[DType::kBFloat16], world == 1 ? 0 : kGroups + 1);
  }
}

TEST_F(OptimizerRanksTest, MovesWeightsAsOneRankDoes) {
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    for (const int world : kWorlds) {
      SCOPED_TRACE(testing::Message() << world << " ranks, " << name(dtype));
      const auto backend = make_cpu_backend(1);
      ParameterSet one(*backend, {dtype});
      add_parameters(one);
      one.initialize(1);
      Optimizer alone(one, {});
      std::mutex mutex;
      for (std::size_t i = 0; i < one.size(); ++i) {
        std::vector<double> values;
        for (std::int64_t e = 0; e < one[i].elements(); ++e) {
          values.push_back(sum(i, e, world));
        }
        write_values(*backend, one[i].gradient(), values);
      }
      const double norm = alone.gradient_norm();
      alone.update(0.1, 0.5, 1);
      run(world, dtype, [&](ParameterSet& set, Ranks&, Optimizer& optimizer) {
        take_all(optimizer);
        EXPECT_NEAR(optimizer.gradient_norm(), norm, 1e-9 * norm);
        optimizer.update(0.1, 0.5, 1);
        optimizer.gather_masters();
        const std::lock_guard lock(mutex);
        for (std::size_t i = 0; i < set.size(); ++i) {
          EXPECT_EQ(read_values(set.backend(), set[i].master()),
                    read_values(*backend, one[i].master()));
          EXPECT_EQ(read_values(set.backend(), set[i].weight()),
                    read_values(*backend, one[i].weight()));
          for (const double value :
               read_values(set.backend(), set[i].gradient())) {
            EXPECT_EQ(value, 0);
          }
        }
      });
    }
  }
}

}  // namespace
}  // namespace catena
