#include "launcher/monitor/metrics_record.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/launcher/monitor/run_files.h"

namespace catena::launcher {
namespace {

using Kind = MetricsRecord::Kind;

TEST(MetricsRecordTest, ReadsAStep) {
  const auto record = parse_metrics(RunFiles::step(3));
  ASSERT_TRUE(record);
  EXPECT_EQ(record->kind, Kind::kStep);
  EXPECT_EQ(record->step, 3);
  EXPECT_EQ(record->loss, 5);
  EXPECT_EQ(record->seconds, 0.625);
  EXPECT_EQ(record->tokens_total, 300);
  EXPECT_EQ(record->mfu, 0.25);
  EXPECT_EQ(record->memory_bytes, 1048576);
  EXPECT_EQ(record->expert_load.at(1).at(1), 3.5);
  EXPECT_EQ(record->rank_load.at(0).at(1), 1.75);
  ASSERT_TRUE(record->several_ranks);
  ASSERT_STREQ(kExchangePhases[1], "dispatch");
  EXPECT_EQ(record->phases[1].exposed, 0.125);
  EXPECT_EQ(record->phases[1].across_bytes, 400);
  EXPECT_EQ(record->phases[2].exposed, 0);
}

TEST(MetricsRecordTest, ReadsAValidationAndAnEvent) {
  const auto validation = parse_metrics(RunFiles::validation(0, 9.5));
  ASSERT_TRUE(validation);
  EXPECT_EQ(validation->kind, Kind::kValidation);
  EXPECT_EQ(validation->validation_loss, 9.5);
  const auto event = parse_metrics(
      R"({"catena_event":"step_skipped","catena_step":4,"reason":"a spike"})");
  ASSERT_TRUE(event);
  EXPECT_EQ(event->kind, Kind::kEvent);
  EXPECT_EQ(event->event, "step_skipped");
  EXPECT_EQ(event->reason, "a spike");
}

// nlohmann writes what is not finite as null.
TEST(MetricsRecordTest, WhatIsNoNumberIsNaN) {
  const auto record = parse_metrics(
      R"({"catena_step":1,"catena_loss":{"train":null},)"
      R"("catena_step_duration_seconds":"x","catena_mfu_ratio":[1],)"
      R"("catena_experts_idle":[[1,null],3]})");
  ASSERT_TRUE(record);
  EXPECT_TRUE(std::isnan(record->loss));
  EXPECT_TRUE(std::isnan(record->seconds));
  EXPECT_TRUE(std::isnan(record->mfu));
  EXPECT_TRUE(std::isnan(record->experts_idle.at(0).at(1)));
  EXPECT_TRUE(record->experts_idle.at(1).empty());
}

TEST(MetricsRecordTest, WhatIsNoLineOfItsIsPassedOver) {
  for (const char* line : {"", "{", "[]", "null", "7", "{\"catena_step\":-1}",
                           "{\"catena_step\":1.5}", "{\"catena_step\":1}",
                           "{\"catena_step\":18446744073709551615}",
                           "{\"catena_step\":1,\"catena_loss\":{\"train\":1",
                           "{\"catena_loss\":{\"validation\":1}}"}) {
    EXPECT_FALSE(parse_metrics(line)) << line;
  }
  EXPECT_FALSE(parse_metrics(std::string(100000, '[')));
}

TEST(MetricsRecordTest, ReadsRouting) {
  const auto record =
      parse_routing(R"({"step":5,"layer":1,"iteration":0,"load":[3,1],)"
                    R"("transitions":[1,2,3,4]})");
  ASSERT_TRUE(record);
  EXPECT_EQ(record->layer, 1);
  EXPECT_EQ(record->load, (std::vector<double>{3, 1}));
  EXPECT_EQ(record->transitions, (std::vector<double>{1, 2, 3, 4}));
}

TEST(MetricsRecordTest, WhatIsNoRoutingIsPassedOver) {
  for (const char* line :
       {"", R"({"step":5,"layer":1,"iteration":0})",
        R"({"step":5,"layer":1,"iteration":0,"load":[]})",
        R"({"step":5,"layer":1,"iteration":0,"load":["x"]})",
        R"({"step":5,"layer":99999,"iteration":0,"load":[1]})",
        R"({"step":5,"layer":1,"iteration":0,"load":[1,2],"transitions":[1]})",
        R"({"step":5,"layer":1,"load":[1]})"}) {
    EXPECT_FALSE(parse_routing(line)) << line;
  }
}

}  // namespace
}  // namespace catena::launcher
