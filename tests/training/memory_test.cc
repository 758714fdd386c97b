// What `catena plan` says is what a run takes, and no more as it goes on.

#include <fstream>

#include "tests/support/json.h"
#include "tests/training/command_fixture.h"

namespace catena {
namespace {

class MemoryTest : public CommandFixture {
 protected:
  MemoryTest() { (void)write("long.txt", long_documents()); }
  [[nodiscard]] nlohmann::json result() const {
    return json_of(read_file(folder_ / "run" / "result.json"));
  }
  [[nodiscard]] std::string train_long(const std::string& more) const {
    return train(
        fmt::format("--set data.train='{}/long.txt' --set "
                    "train.steps=4 --set run.prompts= "
                    "--set checkpoint.every=2 {}",
                    folder_.string(), more));
  }
};

struct Size {
  const char* name;
  const char* keys;
};

class PlannedMemoryTest : public MemoryTest,
                          public testing::WithParamInterface<Size> {};

TEST_P(PlannedMemoryTest, IsTheMeasuredPeak) {
  const Outcome outcome = run(train_long(GetParam().keys));
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const auto planned = result()["memory_planned_bytes"].get<double>();
  const auto measured = result()["memory_anonymous_bytes"].get<double>();
  EXPECT_NEAR(planned, measured, std::max(0.05 * measured, 16.0 * (1 << 20)))
      << outcome.err;
}

INSTANTIATE_TEST_SUITE_P(
    Sizes, PlannedMemoryTest,
    testing::Values(
        Size{"tiny", ""},
        Size{"wide",
             "--set model.hidden=256 --set model.chain.intermediate=256"
             " --set model.chain.routed_experts=31"},
        Size{"deep_float32",
             "--set model.layers=6 --set model.hidden=128 "
             "--set train.precision=float32 "
             "--set model.chain.iterations=3"},
        Size{"large_batch",
             "--set train.batch_tokens=16384 "
             "--set train.micro_batch_tokens=16384 "
             "--set model.hidden=128"},
        Size{"chunks",
             "--set parallel.chunks=3 --set train.batch_tokens=8192 "
             "--set train.micro_batch_tokens=8192 --set "
             "model.hidden=192 --set model.attention.heads=8"},
        Size{"recomputed",
             "--set train.recompute=layer --set "
             "train.batch_tokens=8192 --set "
             "train.micro_batch_tokens=8192 --set "
             "model.hidden=192 --set model.layers=5"}),
    [](const auto& info) { return std::string(info.param.name); });

TEST_F(MemoryTest, StaysFlat) {
  const Outcome outcome =
      run(train(fmt::format("--set data.train='{}/long.txt' --set "
                            "train.steps=2520 --set run.prompts= --set "
                            "train.batch_tokens=128 --set "
                            "checkpoint.every=500 --set validation.every=500",
                            folder_.string())));
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  std::ifstream file(folder_ / "run" / "metrics.jsonl");
  double early = 0, late = 0;
  for (std::string line; std::getline(file, line);) {
    const auto json = json_of(line);
    if (!json.contains("catena_memory_bytes")) continue;
    const auto bytes = json["catena_memory_bytes"]["host"].get<double>();
    if (json["catena_step"] == 520) early = bytes;  // after one checkpoint
    late = bytes;
  }
  ASSERT_GT(early, 0);
  EXPECT_LT(late, early + 2 * (1 << 20));
}

TEST_F(MemoryTest, WhatDoesNotFitIsSaidBeforeItStarts) {
  const Outcome outcome =
      run(train("--set model.hidden=65536 --set "
                "model.chain.routed_experts=4096"));
  EXPECT_EQ(outcome.code, 71) << outcome.err;
  EXPECT_THAT(outcome.err, testing::HasSubstr("model.chain.routed_experts"));
  EXPECT_FALSE(fs::exists(folder_ / "run"));
}

}  // namespace
}  // namespace catena
