// Routes of runs: recorded, followed, planned.

#include "tests/training/ranks_fixture.h"
#include "training/route_file.h"

namespace catena {
namespace {

using testing::HasSubstr;
using RoutingCommandTest = RanksFixture;

TEST_F(RoutingCommandTest, AnyLayoutRecordsTheSameRoutesAndFollowsOthers) {
  const auto file = [&](const std::string& name) {
    return fmt::format("'{}/{}.bin'", folder_.string(), name);
  };
  const auto bytes = [&](const std::string& name) {
    return read_file(folder_ / (name + ".bin"));
  };
  const std::string first_three = " --record-steps 1:3 ";
  ASSERT_EQ(
      run(by(1, 0, "one", "--record-routing " + file("one") + first_three))
          .code,
      0);
  {
    // Routes that the run does not take by itself.
    const RouteFile recorded(folder_ / "one.bin");
    RouteFileWriter writer(folder_ / "turned.bin", recorded.shape());
    RoutedStep step;
    for (const std::int64_t number : recorded.steps()) {
      recorded.read(number, step);
      for (std::int32_t& expert : step.experts) expert = (expert + 1) % 7;
      writer.write(step);
    }
    writer.finish();
  }
  for (const auto& [ranks, expert, more] :
       {std::tuple{2, 2, "--set parallel.chunks=3"},
        {3, 1, "--set train.recompute=layer"},
        {4, 2, "--set train.micro_batch_tokens=128"}}) {
    const std::string name = fmt::format("run-{}-{}", ranks, expert);
    const Outcome outcome =
        run(by(ranks, expert, name,
               "--record-routing " + file(name) + first_three + more));
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr("routing  3 steps in "));
    EXPECT_TRUE(bytes(name) == bytes("one")) << name;
    const Outcome followed =
        run(by(ranks, expert, name + "-turned",
               "--set train.steps=3 --replay-routing " + file("turned") +
                   " --record-routing " + file("again") + " " + more));
    ASSERT_EQ(followed.code, 0) << followed.err;
    EXPECT_TRUE(bytes("again") == bytes("turned")) << name;
  }
}

TEST_F(RoutingCommandTest, RoutesOfAnotherRunAreRefused) {
  const std::string routes = fmt::format("'{}/routes'", folder_.string());
  ASSERT_EQ(
      run(by(2, 2, "one",
             "--record-steps 2 --set train.steps=3 --record-routing " + routes))
          .code,
      0);
  const auto refused = [&](const std::string& more, const char* why) {
    const Outcome outcome =
        run(by(2, 2, "other", "--replay-routing " + routes + " " + more));
    EXPECT_EQ(outcome.code, 65) << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr(why));
    fs::remove_all(folder_ / "other");
  };
  refused("", "step 1 is not there; it holds 1 steps, 2 to 2");
  refused("--set model.chain.top_k=3",
          "offset 12: these are routes of 2 chain layers, 2 iterations, 7 "
          "experts, top_k 2; the model has 2 chain layers, 2 iterations, 7 "
          "experts, top_k 3");
  {
    RoutedStep step;
    const RouteFile file(folder_ / "routes");
    file.read(2, step);
    step.step = 1;
    RouteFileWriter writer(folder_ / "moved", file.shape());
    writer.write(step);
    writer.finish();
    fs::rename(folder_ / "moved", folder_ / "routes");
  }
  refused("", "step 1 is of other tokens than this run's");
  expect_refused(by(2, 2, "other", "--record-steps 1:2"), 64,
                 "--record-routing");
  for (const char* steps : {"0:4", "7:3", "a:b", "4:5:6", ":0", "x"}) {
    expect_refused(
        by(2, 2, "other",
           fmt::format("--record-routing {} --record-steps {}", routes, steps)),
        64, fmt::format("--record-steps {}", steps));
  }
  expect_refused(by(2, 2, "other",
                    "--set model.router.force_balanced=true "
                    "--replay-routing " +
                        routes),
                 64, "force_balanced deals the experts out");
  EXPECT_FALSE(fs::exists(folder_ / "other"));
}

}  // namespace
}  // namespace catena
