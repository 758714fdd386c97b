// The event files of real runs.

#include <map>

#include "tests/training/event_reader.h"
#include "tests/training/run_fixture.h"

namespace catena {
namespace {

using nlohmann::json;
using Series = std::map<std::string, std::map<std::int64_t, double>>;

class TensorBoardCommandTest : public RunFixture {
 protected:
  [[nodiscard]] fs::path folder(const std::string& run) const {
    return folder_ / run / "tensorboard";
  }
  /// What a reader shows of a run's files, one after another: a start takes
  /// back what was said of its step and later ones.
  [[nodiscard]] Series series(const std::string& run) const {
    Series all;
    for (const fs::path& file : event_files(folder(run))) {
      for (const json& record : events_in(file)) {
        if (record.contains("start")) {
          for (auto& of_tag : all) {
            auto& steps = of_tag.second;
            steps.erase(steps.lower_bound(record["start"]), steps.end());
          }
        }
        if (!record.contains("scalars")) continue;
        for (const auto& item : record["scalars"].items()) {
          all[item.key()][record["step"]] = item.value();
        }
      }
    }
    return all;
  }
  /// Numbers of a line under their tags.
  static std::map<std::string, double> numbers(const json& line) {
    std::map<std::string, double> found;
    const json flat = line.flatten();
    for (const auto& item : flat.items()) {
      if (!item.value().is_number()) continue;
      std::string tag;
      std::istringstream parts(item.key().substr(1));
      int depth = 0;
      for (std::string part; std::getline(parts, part, '/');) {
        const bool index =
            part.find_first_not_of("0123456789") == std::string::npos;
        if (index) part = (depth++ == 0 ? "layer_" : "iteration_") + part;
        tag += (tag.empty() ? "" : "/") + part;
      }
      found[tag] = item.value();
    }
    found.erase("catena_step");
    return found;
  }
  static bool is_validation(const json& line) {
    return line.contains("catena_loss") &&
           line["catena_loss"].contains("validation");
  }
};

TEST_F(TensorBoardCommandTest, HoldsTheNumbersOfTheMetrics) {
  ASSERT_EQ(run(small("run",
                      "--set train.steps=6 --set validation.every=3 "
                      "--set metrics.every=2"))
                .code,
            0);
  const Series found = series("run");
  std::size_t steps = 0, validations = 0;
  for (const json& line : metrics("run")) {
    const std::int64_t step = line["catena_step"];
    auto expected = numbers(line);
    if (is_validation(line)) {
      ++validations;
      expected.erase("catena_trained_tokens");
    }
    for (const auto& [tag, value] : expected) {
      ASSERT_TRUE(found.contains(tag) && found.at(tag).contains(step))
          << tag << " of step " << step;
      EXPECT_EQ(found.at(tag).at(step), static_cast<float>(value)) << tag;
    }
    if (expected.contains("catena_loss/train")) ++steps;
  }
  EXPECT_EQ(steps, 3U);
  EXPECT_EQ(validations, 3U);
  EXPECT_EQ(found.at("catena_loss/train").size(), steps);
  EXPECT_EQ(found.at("catena_loss/validation").size(), validations);
  EXPECT_TRUE(found.contains("catena_experts_idle/layer_1/iteration_1"));
  EXPECT_TRUE(found.contains("catena_expert_load_max_to_mean_ratio/worst"));
  EXPECT_TRUE(found.contains("catena_checkpoint_bytes"));
  EXPECT_FALSE(found.contains("catena_forced_balanced"));
}

TEST_F(TensorBoardCommandTest, MarksExpertsThatWereDealtOut) {
  ASSERT_EQ(run(small("run",
                      "--set train.steps=2 --set checkpoint.every=0 "
                      "--set model.router.force_balanced=true"))
                .code,
            0);
  const Series found = series("run");
  ASSERT_TRUE(found.contains("catena_forced_balanced"));
  for (const auto& [step, value] : found.at("catena_forced_balanced")) {
    EXPECT_EQ(value, 1) << step;
  }
}

TEST_F(TensorBoardCommandTest, ARunThatGoesBackShowsWhatItThenDid) {
  ASSERT_EQ(run(small("run", "--set train.steps=6")).code, 0);
  const auto first = series("run").at("catena_loss/train");
  const std::string from = (checkpoints("run") / "step-000003").string();
  const Outcome again =
      run(small("run", fmt::format("--set train.steps=8 --set "
                                   "learning_rate.peak=1e-3 --resume-from '{}'",
                                   from)));
  ASSERT_EQ(again.code, 0) << again.err;
  EXPECT_EQ(event_files(folder("run")).size(), 2U);
  const Series found = series("run");
  const auto& losses = found.at("catena_loss/train");
  EXPECT_EQ(losses.size(), 8U);
  for (const auto& [step, loss] : this->losses("run")) {
    EXPECT_EQ(losses.at(step), static_cast<float>(loss)) << step;
  }
  EXPECT_EQ(losses.at(3), first.at(3));
  EXPECT_NE(losses.at(6), first.at(6));
}

TEST_F(TensorBoardCommandTest, OnlyTheFirstRankWritesAndOnlyWhereWanted) {
  const std::string short_run = "--set train.steps=2 --ranks 2 ";
  ASSERT_EQ(run(small("run", short_run)).code, 0);
  EXPECT_TRUE(series("run").contains("catena_exposed_ratio"));
  EXPECT_TRUE(
      series("run").contains("catena_exchange_seconds/dispatch/exposed"));
  EXPECT_FALSE(fs::exists(folder("run/ranks/1")));
  ASSERT_EQ(
      run(small("off", short_run + "--set metrics.tensorboard=false")).code, 0);
  EXPECT_FALSE(fs::exists(folder("off")));
}

// With the package of PyPI: CATENA_TENSORBOARD=VENV/bin/python.
TEST_F(TensorBoardCommandTest, TensorBoardItselfReadsTheSame) {
  const char* named = std::getenv("CATENA_TENSORBOARD");
  const std::string python = named != nullptr ? named : "python3";
  if (std::system((python + " -c 'import tensorboard' 2> /dev/null").c_str()) !=
      0) {
    GTEST_SKIP() << python
                 << " has no package tensorboard; install it, or "
                    "name a Python that has it in CATENA_TENSORBOARD";
  }
  ASSERT_EQ(run(small("run", "--set train.steps=6")).code, 0);
  ASSERT_EQ(
      run(small("run",
                fmt::format("--set train.steps=7 --resume-from '{}'",
                            (checkpoints("run") / "step-000003").string())))
          .code,
      0);
  const json found = json_of(output_of(
      fmt::format("'{}' '{}/tests/training/read_tensorboard' '{}' 2> /dev/null",
                  python, CATENA_SOURCE_DIR, folder("run").string())));
  const Series expected = series("run");
  EXPECT_EQ(found.size(), expected.size());
  for (const auto& [tag, steps] : expected) {
    json list = json::array();
    for (const auto& [step, value] : steps) list.push_back({step, value});
    EXPECT_EQ(found.value(tag, json()), list) << tag;
  }
}

}  // namespace
}  // namespace catena
