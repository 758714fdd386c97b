// Checkpoints: what is written is what is read, and at no moment is a run
// without its last good one.

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <cmath>

#include "tests/training/checkpoint_fixture.h"

namespace catena {
namespace {

using CheckpointTest = CheckpointFixture;
using testing::ElementsAre;
using testing::HasSubstr;

TEST_F(CheckpointTest, RestoresEveryBit) {
  const std::vector<double> before = values();
  EXPECT_GT(write(7), 0);
  fill(2);
  ASSERT_NE(values(), before);
  const auto newest = newest_checkpoint(checkpoints_);
  ASSERT_TRUE(newest.has_value());
  EXPECT_EQ(newest->step, 7);
  restore(newest->folder, model_, optimizer_);
  EXPECT_EQ(values(), before);
}

TEST_F(CheckpointTest, FloatsAreReadAsDoubles) {
  write(7);
  Model wide(*backend_, config(), {DType::kFloat64});
  const Optimizer moments(wide.parameters(), {});
  restore(step_folder(7), wide, moments);
  const auto read = [&](Model& model) {
    return read_values(*backend_, model.parameters()[0].master());
  };
  EXPECT_EQ(read(wide), read(model_));
}

TEST_F(CheckpointTest, ASnapshotIsOfItsMoment) {
  Snapshot snapshot(*backend_, model_tensors(model_));
  snapshot.capture();
  const std::vector<std::byte> before(snapshot.arrays()[0].data.begin(),
                                      snapshot.arrays()[0].data.end());
  fill(2);
  EXPECT_TRUE(std::equal(before.begin(), before.end(),
                         snapshot.arrays()[0].data.begin()));
  snapshot.capture();
  EXPECT_FALSE(std::equal(before.begin(), before.end(),
                          snapshot.arrays()[0].data.begin()));
}

TEST_F(CheckpointTest, TheIndexNamesEveryTensor) {
  write(7);
  const std::string index = read_file(step_folder(7) / kIndexFile);
  for (const StoredTensor& tensor : model_tensors(model_)) {
    EXPECT_THAT(index, HasSubstr('"' + tensor.name + "\": \"" + kModelFile));
  }
}

TEST_F(CheckpointTest, IsNotClosedWhileATensorIsMissingOrThereTwice) {
  const std::set<std::string> names = checkpoint_names(model_);
  const std::string gone = "model.layers.0.mlp.experts.2.up_proj.weight";
  ASSERT_TRUE(names.contains(gone));
  TrainingState state;
  state.step = 3;
  const auto refusal = [&](const std::vector<StoredTensor>& weights,
                           const std::vector<StoredTensor>& moments) {
    Snapshot model(*backend_, weights), optimizer(*backend_, moments);
    model.capture();
    optimizer.capture();
    try {
      write_checkpoint(checkpoints_, model, optimizer, state, {},
                       {.names = &names});
      return std::string();
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kInternal);
      EXPECT_THAT(steps(), ElementsAre());
      return std::string(error.what());
    }
  };
  const auto without = [](std::vector<StoredTensor> tensors,
                          const std::string& name) {
    EXPECT_EQ(
        std::erase_if(tensors,
                      [&](const auto& tensor) { return tensor.name == name; }),
        1U);
    return tensors;
  };
  const auto weights = model_tensors(model_);
  const auto moments = optimizer_tensors(model_.parameters(), optimizer_);
  EXPECT_THAT(refusal(without(weights, gone), moments),
              HasSubstr(fmt::format("lacks 1 of {} tensors, such as {};",
                                    names.size(), gone)));
  EXPECT_THAT(refusal(weights, without(moments, gone + ".exp_avg")),
              HasSubstr(gone + ".exp_avg;"));
  auto twice = moments;
  twice.push_back(weights[1]);
  EXPECT_THAT(refusal(weights, twice),
              HasSubstr("holds tensor " + weights[1].name + " twice"));
  EXPECT_EQ(refusal(weights, moments), "");
  EXPECT_THAT(steps(), ElementsAre(3));
}

TEST_F(CheckpointTest, StateSurvivesItsText) {
  TrainingState state;
  state.step = 12;
  state.tokens = 3456;
  state.seconds = 0.1;
  state.validation_before = std::nan("");
  state.sampler = {1, 2, 3};
  state.spikes = {{1.1, 2.2}, {0.3}, 4, 5, 6};
  state.probe_loss = 1.0 / 3;
  state.layout = "1 rank";
  state.data_hash = "a";
  state.validation_hash = "b";
  state.tokenizer_hash = "c";
  state.config = {{"run.folder", "\"x\""}, {"train.steps", "5"}};
  const TrainingState read = parse_state(state_text(state), "state.json");
  EXPECT_EQ(state_text(read), state_text(state));
  EXPECT_EQ(read.sampler, state.sampler);
  EXPECT_EQ(read.spikes, state.spikes);
  EXPECT_EQ(read.probe_loss, state.probe_loss);
  EXPECT_TRUE(std::isnan(read.validation_before));
}

/// Runs `work` in a process of its own; what ended it, as wait() says.
template <class Work>
int in_child(const Work& work) {
  const pid_t child = ::fork();
  if (child == 0) {
    work();
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return status;
}

TEST_F(CheckpointTest, AKillInAnyPhaseLeavesAValidOne) {
  const std::vector<double> first = values();
  write(1);
  for (const char* phase :
       {"model", "optimizer", "index", "state", "manifest", "rename", "done"}) {
    fill(2);
    const int status = in_child([&] {
      write(2, [&](const char* now) {
        if (std::string_view(now) == phase) ::kill(::getpid(), SIGKILL);
      });
    });
    ASSERT_TRUE(WIFSIGNALED(status)) << phase;
    const bool renamed = std::string_view(phase) == "done";
    const auto newest = newest_checkpoint(checkpoints_);
    ASSERT_TRUE(newest.has_value()) << phase;
    EXPECT_EQ(newest->step, renamed ? 2 : 1) << phase;
    restore(newest->folder, model_, optimizer_);
    EXPECT_EQ(values() == first, !renamed) << phase;
  }
  remove_unfinished_checkpoints(checkpoints_);
  EXPECT_THAT(steps(), ElementsAre(2, 1));
  EXPECT_EQ(std::distance(fs::directory_iterator(checkpoints_),
                          fs::directory_iterator()),
            2);
}

// A run that went back to an earlier step writes the same names again.
TEST_F(CheckpointTest, AStepWrittenTwiceIsTheSecond) {
  write(3);
  fill(2);
  const std::vector<double> second = values();
  write(3);
  EXPECT_THAT(steps(), ElementsAre(3));
  fill(1);
  restore(newest_checkpoint(checkpoints_)->folder, model_, optimizer_);
  EXPECT_EQ(values(), second);
  EXPECT_EQ(std::distance(fs::directory_iterator(checkpoints_),
                          fs::directory_iterator()),
            1);
}

TEST_F(CheckpointTest, AFullDiskLeavesTheLastOne) {
  const auto whole = static_cast<rlim_t>(write(1));
  for (const rlim_t room : {rlim_t{1}, rlim_t{4096}, whole / 4, whole / 2}) {
    const int status = in_child([&] {
      ::signal(SIGXFSZ, SIG_IGN);
      const rlimit limit{room, room};
      ::setrlimit(RLIMIT_FSIZE, &limit);
      try {
        write(2);
      } catch (const Error& error) {
        ::_exit(error.kind() == ErrorKind::kIo ? 1 : 2);
      }
    });
    ASSERT_TRUE(WIFEXITED(status));
    EXPECT_EQ(WEXITSTATUS(status), 1) << room;
    EXPECT_EQ(newest_checkpoint(checkpoints_)->step, 1);
  }
  EXPECT_EQ(std::distance(fs::directory_iterator(checkpoints_),
                          fs::directory_iterator()),
            1);
}

TEST_F(CheckpointTest, AFileInTheWayIsAnError) {
  fs::create_directories(folder_);
  write_file_atomically(checkpoints_, "not a folder");
  try {
    write(1);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kIo);
    EXPECT_THAT(error.what(), HasSubstr("checkpoints"));
  }
}

TEST_F(CheckpointTest, KeepsTheLastAndTheMilestones) {
  const CheckpointConfig config{.every = 1, .keep_last = 2, .keep_every = 10};
  for (const std::int64_t step : {3, 7, 12, 15, 21, 24, 27, 30}) {
    write(step);
    remove_old_checkpoints(checkpoints_, config);
  }
  EXPECT_THAT(steps(), ElementsAre(30, 27, 21, 12, 3));
  remove_old_checkpoints(checkpoints_, {.keep_last = 1});
  EXPECT_THAT(steps(), ElementsAre(30));
  EXPECT_NO_THROW((void)newest_checkpoint(checkpoints_));
}

TEST_F(CheckpointTest, WeightsAreFoundInARunACheckpointAndAFile) {
  write(2);
  write(5);
  EXPECT_EQ(find_weights(folder_), step_folder(5) / kModelFile);
  EXPECT_EQ(find_weights(step_folder(2)), step_folder(2) / kModelFile);
  const fs::path file = step_folder(2) / kModelFile;
  EXPECT_EQ(find_weights(file), file);
  EXPECT_THROW((void)find_weights(folder_ / "nothing"), Error);
  fs::remove_all(checkpoints_);
  EXPECT_THROW((void)find_weights(folder_), Error);
}

}  // namespace
}  // namespace catena
