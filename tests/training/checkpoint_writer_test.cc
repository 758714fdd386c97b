// The thread that writes while training goes on; run by ThreadSanitizer too.

#include "tests/training/checkpoint_fixture.h"

namespace catena {
namespace {

using testing::HasSubstr;
using CheckpointWriterTest = CheckpointFixture;

TEST_F(CheckpointWriterTest, WorksBehindAndTellsOfFailure) {
  CheckpointWriter writer(checkpoints_, {}, model_, optimizer_);
  EXPECT_FALSE(writer.poll().has_value());
  EXPECT_EQ(writer.last_step(), -1);
  TrainingState state;
  state.step = 4;
  writer.begin(state);
  fill(2);  // not what was captured
  const auto outcome = writer.wait();
  ASSERT_TRUE(outcome.has_value());
  EXPECT_EQ(outcome->error, "");
  EXPECT_EQ(writer.last_step(), 4);
  fill(1);
  const std::vector<double> captured = values();
  fill(3);
  restore(step_folder(4), model_, optimizer_);
  EXPECT_EQ(values(), captured);

  fs::remove_all(checkpoints_);
  write_file_atomically(checkpoints_, "in the way");
  state.step = 5;
  writer.begin(state);
  EXPECT_THAT(writer.wait()->error, HasSubstr("checkpoints"));
  EXPECT_EQ(writer.last_step(), 4);
}

}  // namespace
}  // namespace catena
