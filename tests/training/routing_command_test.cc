// Routes of runs: recorded, followed, planned.

#include "tests/training/ranks_fixture.h"
#include "training/route_file.h"

namespace catena {
namespace {

using testing::HasSubstr;
using testing::Not;
using RoutingCommandTest = RanksFixture;

/// Routes that the run does not take by itself.
void turn(const fs::path& recorded, const fs::path& turned) {
  const RouteFile file(recorded);
  RouteFileWriter writer(turned, file.shape());
  RoutedStep step;
  for (const std::int64_t number : file.steps()) {
    file.read(number, step);
    for (std::int32_t& expert : step.experts) expert = (expert + 1) % 7;
    writer.write(step);
  }
  writer.finish();
}

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
  turn(folder_ / "one.bin", folder_ / "turned.bin");
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

// The loss of a step tells by which experts it was taken.
TEST_F(RoutingCommandTest, BenchmarksFollowAFileAndSayWhatTheyFollowed) {
  const auto file = [&](const char* name) { return (folder_ / name).string(); };
  ASSERT_EQ(run(by(1, 0, "one",
                   fmt::format("--set train.steps=1 --record-routing '{}'",
                               file("one.bin"))))
                .code,
            0);
  turn(folder_ / "one.bin", folder_ / "turned.bin");
  const std::string config = fmt::format("'{}/tiny.toml' ", folder_.string());
  const std::string replay = "--replay-routing ";

  program_ = "catena-bench-step";
  const auto step = [&](const std::string& more) {
    const Outcome outcome = run(
        config + "--warmup 0 --steps 1 --set train.precision=float64 " + more);
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    return json_of(outcome.out);
  };
  const auto one = step(replay + file("one.bin"));
  const auto turned = step(replay + file("turned.bin"));
  EXPECT_EQ(one["routes_replayed"], file("one.bin"));
  EXPECT_NE(one["loss"], turned["loss"]);
  EXPECT_EQ(one["loss"], step(replay + file("one.bin"))["loss"]);
  EXPECT_FALSE(one.contains("forced_balanced"));
  const auto dealt = step("--set model.router.force_balanced=true");
  EXPECT_EQ(dealt["forced_balanced"], true);
  EXPECT_FALSE(dealt.contains("routes_replayed"));
  const Outcome other =
      run(config + "--set model.chain.top_k=1 " + replay + file("one.bin"));
  EXPECT_EQ(other.code, 1);
  EXPECT_THAT(other.err, HasSubstr(file("one.bin")));

  program_ = "catena-bench-ranks";
  const std::string ranks = config + "--rounds 1 --steps 1 ";
  EXPECT_THAT(run(ranks + replay + file("one.bin")).out,
              testing::StartsWith("ROUTES REPLAYED: those of " +
                                  file("one.bin") + "\n"));
  EXPECT_THAT(run(ranks).out, testing::StartsWith("FORCED BALANCED: "));
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

TEST_F(RoutingCommandTest, RoutesThatWereDealtOutAreMarkedEverywhere) {
  const std::string routes = fmt::format("'{}/routes'", folder_.string());
  const std::string forced =
      by(2, 2, "run",
         "--set train.steps=3 --set model.router.force_balanced=true");
  const Outcome outcome = run(forced + " --record-routing " + routes);
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("the losses mean nothing"));
  EXPECT_THAT(outcome.err,
              testing::ContainsRegex("step 3/3 .*FORCED BALANCED"));
  EXPECT_THAT(outcome.err, testing::ContainsRegex("done: .*FORCED BALANCED"));
  EXPECT_EQ(result("run")["forced_balanced"], true);
  for (const auto& line : metrics("run")) {
    if (!line.contains("catena_grad_norm")) continue;
    EXPECT_EQ(line["catena_forced_balanced"], true);
  }
  const std::string plan = "plan" + by(2, 2, "run").substr(5);
  for (const std::string& marked :
       {plan + " --set model.router.force_balanced=true",
        plan + " --routing " + routes}) {
    EXPECT_THAT(run(marked).out, HasSubstr("forced balanced")) << marked;
    EXPECT_EQ(json_of(run(marked + " --json").out)["forced_balanced"], true);
  }
  EXPECT_THAT(run(plan).out, Not(HasSubstr("forced balanced")));
  // What replays is marked too, and says which.
  const Outcome replayed =
      run(by(2, 1, "again", "--set train.steps=3 --replay-routing " + routes));
  ASSERT_EQ(replayed.code, 0) << replayed.err;
  EXPECT_THAT(replayed.err, testing::ContainsRegex("done: .*ROUTES REPLAYED"));
  EXPECT_EQ(result("again")["routes_replayed"], true);
}

/// Bytes that ranks sent over some steps, by rank and phase.
using Bytes = std::vector<std::map<std::string, double>>;

class RoutingPlanTest : public RoutingCommandTest {
 protected:
  /// What the ranks of a run counted; but `control`, which recording adds to.
  [[nodiscard]] Bytes counted(
      const std::string& name, int ranks,
      const char* metric = "catena_exchange_bytes") const {
    Bytes bytes(static_cast<std::size_t>(ranks));
    for (int rank = 0; rank < ranks; ++rank) {
      for (const auto& line :
           metrics(rank == 0 ? name : fmt::format("{}/ranks/{}", name, rank))) {
        if (!line.contains(metric)) continue;
        for (const auto& [phase, sent] : line[metric].items()) {
          if (phase == "control") continue;
          bytes[static_cast<std::size_t>(rank)][phase] += sent.get<double>();
        }
      }
    }
    return bytes;
  }
  static Bytes planned(const nlohmann::json& routing,
                       const char* bytes_of = "exchange_bytes") {
    Bytes bytes;
    for (const auto& rank : routing["ranks"]) {
      bytes.emplace_back();
      for (const auto& [phase, sent] : rank[bytes_of].items()) {
        std::string key = phase;
        std::replace(key.begin(), key.end(), ' ', '_');
        if (key != "control") bytes.back()[key] = sent.get<double>();
      }
    }
    return bytes;
  }
  /// The greatest ratio that rank 0 saw.
  [[nodiscard]] double worst_load(const std::string& name) const {
    double worst = 0;
    for (const auto& line : metrics(name)) {
      if (!line.contains("catena_rank_load_max_to_mean_ratio")) continue;
      for (const auto& layer : line["catena_rank_load_max_to_mean_ratio"]) {
        for (const double ratio : layer) worst = std::max(worst, ratio);
      }
    }
    return worst;
  }
  [[nodiscard]] nlohmann::json plan(const std::string& arguments,
                                    const std::string& routing) const {
    const Outcome outcome =
        run("plan" + arguments.substr(5) + " --json --routing " + routing);
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    return json_of(outcome.out)["routing"];
  }
};

TEST_F(RoutingPlanTest, OfARunsOwnRoutesIsWhatItSent) {
  const std::string placement = write("placement.toml", R"(ranks = 2
experts = [0, [0, 1], 1, 1, [0, 1], 0, 1]
)");
  const std::string replicas = write("replicas.toml", R"(ranks = 4
experts = [0, [0, 1, 3], 1, 2, [1, 2], 3, [0, 3]]
)");
  const std::string crossing =
      "--set parallel.ranks_per_node=2 --set parallel.hierarchical=true";
  const std::pair<std::pair<int, int>, std::string> cases[] = {
      {{2, 2}, "--set parallel.chunks=2"},
      {{2, 1}, ""},
      {{2, 2}, "--set model.router.force_balanced=true"},
      {{3, 3}, "--set train.recompute=layer --set train.precision=bfloat16"},
      {{3, 3},
       "--set parallel.row_budget=0.4 --set parallel.chunks=2 --set "
       "parallel.wire=bfloat16"},
      {{4, 2}, "--set parallel.placement=round_robin"},
      {{4, 2}, "--set parallel.ranks_per_node=2"},
      {{4, 4}, "--set parallel.ranks_per_node=2"},
      {{4, 4}, crossing},
      {{4, 4},
       crossing +
           " --set parallel.row_budget=0.4 --set parallel.chunks=2 --set "
           "train.recompute=layer --set parallel.wire=bfloat16"},
      {{4, 4},
       crossing +
           " --set parallel.row_budget=0.7 --set data.packing=padded --set "
           "train.micro_batch_tokens=128 --set parallel.placement_file=" +
           replicas},
      {{4, 2},
       "--set data.packing=padded --set parallel.chunks=3 --set "
       "train.micro_batch_tokens=128 --set parallel.row_budget=0.7 --set "
       "parallel.placement_file=" +
           placement}};
  int number = 0;
  for (const auto& [layout, more] : cases) {
    const std::string name = fmt::format("run-{}", ++number);
    SCOPED_TRACE(name);
    const std::string routes =
        fmt::format("'{}/{}.bin'", folder_.string(), name);
    const std::string arguments =
        by(layout.first, layout.second, name, "--set train.steps=3 " + more);
    const Outcome outcome = run(arguments + " --record-routing " + routes);
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    const Bytes found = counted(name, layout.first);
    if (layout.second > 1) {
      EXPECT_GT(found[0].at("dispatch"), 0);
    }
    const auto foretold = plan(arguments, routes);
    EXPECT_EQ(planned(foretold), found);
    EXPECT_EQ(planned(foretold, "across_bytes"),
              counted(name, layout.first, "catena_exchange_across_bytes"));
    // Of a single group, which alone knows its rows; and without replicas,
    // which it takes to share evenly.
    if (layout.first == layout.second &&
        more.find("placement_file") == std::string::npos) {
      EXPECT_NEAR(foretold["worst_load"]["max_to_mean"].get<double>(),
                  worst_load(name), 1e-9);
    }
  }
}

TEST_F(RoutingPlanTest, UnderAnotherPlacementIsWhatARunThatReplaysThereSends) {
  const std::string routes = fmt::format("'{}/routes'", folder_.string());
  const std::string three = "--set train.steps=3 ";
  ASSERT_EQ(run(by(2, 2, "first", three + "--record-routing " + routes)).code,
            0);
  const std::string lonely = write("lonely.toml", R"(ranks = 3
experts = [2, 2, 0, 1, 2, 2, 2]
[[layer]]
number = 1
experts = [0, 1, 1, 1, 2, 1, 1]
)");
  const std::string replicas = write("replicas.toml", R"(ranks = 2
experts = [0, [0, 1], 1, 1, [0, 1], 0, 1]
)");
  for (const auto& [ranks, file] :
       {std::pair{2, replicas}, std::pair{3, lonely}}) {
    const std::string name = fmt::format("run-{}", ranks);
    SCOPED_TRACE(name);
    const std::string own = by(ranks, ranks, name, three);
    const Outcome outcome =
        run(fmt::format("{} --replay-routing {} --set "
                        "parallel.placement_file={}",
                        own, routes, file));
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    const auto foretold = plan(own + " --placement " + file, routes);
    EXPECT_EQ(planned(foretold), counted(name, ranks));
    EXPECT_NE(planned(foretold), planned(plan(own, routes)));
    if (file == lonely) {
      EXPECT_NEAR(foretold["worst_load"]["max_to_mean"].get<double>(),
                  worst_load(name), 1e-9);
    }
  }
}

TEST_F(RoutingPlanTest, OfTheWorstLoadsOneRankWithEverything) {
  const auto foretold = plan(by(2, 2, "run"), "worst");
  EXPECT_EQ(foretold["load_max_to_mean"], 2);
  EXPECT_EQ(foretold["ranks"][1]["rows"], 0);
  // 1024 tokens, two of seven experts in two iterations of two layers.
  EXPECT_EQ(foretold["ranks"][0]["rows"], 1024 * 2 * 2 * 2);
  expect_refused("plan" + by(1, 0, "run").substr(5) + " --routing worst", 64,
                 "one rank exchanges nothing");
  expect_refused("plan" + by(2, 2, "run").substr(5) + " --routing /nowhere", 65,
                 "/nowhere");
}

}  // namespace
}  // namespace catena
