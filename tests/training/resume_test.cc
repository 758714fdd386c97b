// Runs that are stopped, killed and gone on with.

#include <signal.h>

#include <cmath>

#include "runtime/safetensors.h"
#include "tests/training/run_fixture.h"

namespace catena {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

using ResumeTest = RunFixture;

void flip_a_bit(const fs::path& path) {
  std::string bytes = read_file(path);
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
  write_file_atomically(path, bytes);
}

TEST_F(ResumeTest, KilledAtAnyMomentEndsWithTheSameBits) {
  ASSERT_EQ(run(small("whole")).code, 0);
  const std::string expected = final_state("whole");
  const auto expected_losses = losses("whole");
  ASSERT_EQ(expected_losses.size(), 30U);
  constexpr int kKills = 50;
  std::uint64_t random = 12345;
  int killed = 0, runs = 0;
  while (killed < kKills) {
    const std::string name = fmt::format("killed{}", ++runs);
    ASSERT_LE(runs, 4 * kKills);
    for (;;) {
      random = random * 6364136223846793005ULL + 1442695040888963407ULL;
      const pid_t child = start(small(name, "--resume"));
      // A whole run takes about half a second from start to end.
      std::this_thread::sleep_for(
          std::chrono::milliseconds(200 + (random >> 33) % 500));
      ::kill(child, SIGKILL);
      const Outcome outcome = wait(child);
      if (outcome.code == 0) break;
      ASSERT_EQ(outcome.code, 128 + SIGKILL) << outcome.err;
      if (++killed >= kKills) {
        const Outcome last = run(small(name, "--resume"));
        ASSERT_EQ(last.code, 0) << last.err;
        break;
      }
    }
    ASSERT_EQ(final_state(name), expected) << name;
    ASSERT_EQ(losses(name), expected_losses) << name;
    fs::remove_all(folder_ / name);
  }
}

TEST_F(ResumeTest, StoppedRunsSaveAndGoOn) {
  ASSERT_EQ(run(small("whole", "--set train.steps=300")).code, 0);
  for (const int signal : {SIGINT, SIGTERM}) {
    fs::remove_all(folder_ / "run");
    const pid_t child =
        start(small("run", "--set train.steps=300 --set checkpoint.every=0"));
    wait_for_metrics("\"catena_step\":10,");
    ::kill(child, signal);
    const Outcome stopped = wait(child);
    EXPECT_EQ(stopped.code, 75) << stopped.err;
    EXPECT_THAT(stopped.err, HasSubstr("--resume-from"));
    EXPECT_EQ(result("run")["state"], "stopped");
    EXPECT_LT(result("run")["step"], 300);
    const Outcome resumed = run(small("run", "--resume --set train.steps=300"));
    EXPECT_EQ(resumed.code, 0) << resumed.err;
    EXPECT_EQ(final_state("run"), final_state("whole"));
  }
}

// Who stops a run does not wait long: no validation begins, and after the one
// that is under way no step.
TEST_F(ResumeTest, AStoppedRunBeginsNothingMore) {
  const std::string every =
      "--set checkpoint.every=0 --set validation.every=1 ";
  const auto stopped_at = [&](const std::string& more,
                              const std::string& sight) {
    fs::remove_all(folder_ / "run");
    const pid_t child = start(small("run", every + more));
    wait_for_metrics(sight);
    ::kill(child, SIGTERM);
    const Outcome stopped = wait(child);
    EXPECT_EQ(stopped.code, 75) << stopped.err;
    return result("run")["step"].get<int>();
  };
  const auto validated = [&](int step) {
    return read_file(folder_ / "run/metrics.jsonl")
               .find(fmt::format("{{\"catena_step\":{},\"catena_loss\":"
                                 "{{\"validation\"",
                                 step)) != std::string::npos;
  };
  // In the validation after the first step.
  EXPECT_EQ(stopped_at("--set validation.rows=100000 --set "
                       "data.validation=data/quickstart/train.jsonl",
                       "\"catena_step\":1,\"catena_loss\":{\"train\""),
            1);
  EXPECT_TRUE(validated(1));
  // In the second step.
  EXPECT_EQ(stopped_at("--set validation.rows=1 --set train.batch_tokens=65536",
                       "\"catena_step\":1,\"catena_loss\":{\"validation\""),
            2);
  EXPECT_FALSE(validated(2));
}

TEST_F(ResumeTest, MoreStepsAndAnotherRateAreSaidInTheLog) {
  ASSERT_EQ(run(small("run")).code, 0);
  const Outcome more = run(small(
      "run", "--resume --set train.steps=36 --set learning_rate.peak=1e-3"));
  EXPECT_EQ(more.code, 0) << more.err;
  EXPECT_THAT(more.err, HasSubstr("train.steps was 30, now 36"));
  EXPECT_THAT(more.err, HasSubstr("learning_rate.peak was 0.01, now 0.001"));
  EXPECT_EQ(losses("run").size(), 36U);
  const Outcome fewer = run(small("run", "--resume --set train.steps=10"));
  EXPECT_EQ(fewer.code, 78);
  EXPECT_THAT(fewer.err, HasSubstr("is at step 36"));
}

TEST_F(ResumeTest, AJobLaunchedInAnotherWayIsTheSameRun) {
  ASSERT_EQ(run(small("run", "--set launch.max_restarts=7")).code, 0);
  EXPECT_THAT(read_file(folder_ / "run" / "config.toml"),
              Not(HasSubstr("launch")));
  const Outcome more =
      run(small("run",
                "--resume --set train.steps=36 --set launch.ranks=3 --set "
                "launch.bind=core"));
  EXPECT_EQ(more.code, 0) << more.err;
  EXPECT_THAT(more.err, AllOf(HasSubstr("train.steps was 30, now 36"),
                              Not(HasSubstr("launch"))));
  const Outcome wrong = run(small("run", "--set launch.bind=cores"));
  EXPECT_EQ(wrong.code, 78);
  EXPECT_THAT(wrong.err, HasSubstr("launch.bind must be one of none, core, "
                                   "numa, not the text \"cores\"; did you "
                                   "mean core?"));
}

TEST_F(ResumeTest, AnotherRunIsRefusedByItsKeys) {
  ASSERT_EQ(run(small("run")).code, 0);
  const Outcome shape = run(small("run", "--resume --set model.hidden=64"));
  EXPECT_EQ(shape.code, 65);
  EXPECT_THAT(shape.err, HasSubstr("model.hidden was 32, is 64"));
  // What was refused changed nothing.
  EXPECT_THAT(read_file(folder_ / "run" / "config.toml"),
              HasSubstr("hidden = 32"));
  const Outcome data = run(
      small("run", "--resume --set data.train=data/quickstart/train.jsonl"));
  EXPECT_EQ(data.code, 65);
  EXPECT_THAT(data.err, HasSubstr("the training data (data.train) was "));
  ASSERT_EQ(run(fmt::format("data tokenizer --input data/quickstart/val.jsonl "
                            "--vocabulary 300 --output '{}/other.json'",
                            folder_.string()))
                .code,
            0);
  const Outcome tokens = run(
      small("run", fmt::format("--resume --set data.tokenizer={}/other.json",
                               folder_.string())));
  EXPECT_EQ(tokens.code, 65);
  EXPECT_THAT(tokens.err, HasSubstr("the tokenizer (data.tokenizer) was "));
  // The weights alone may go anywhere they fit.
  const Outcome weights =
      run(small("other", fmt::format("--init-from '{}/run' --set "
                                     "data.train=data/quickstart/train.jsonl",
                                     folder_.string())));
  EXPECT_EQ(weights.code, 0) << weights.err;
  EXPECT_LT(losses("other").front().second, losses("run").front().second - 1);
}

TEST_F(ResumeTest, WeightsAloneBeginAtStepZero) {
  ASSERT_EQ(run(small("run", "--set checkpoint.keep_last=5")).code, 0);
  const auto places = list_checkpoints(checkpoints("run"));
  const std::string from = places[0].folder.string();
  const std::string words =
      fmt::format("--init-from '{}' --set train.steps=3", from);
  ASSERT_EQ(run(small("first", words)).code, 0);
  EXPECT_EQ(losses("first").front().first, 1);
  // The moments are new: another run's beginning leaves no trace in them.
  ASSERT_EQ(run(small("second", words + " --resume")).code, 0);
  EXPECT_EQ(final_state("second"), final_state("first"));
  // What is damaged is refused, and what there is besides is named.
  flip_a_bit(places[0].folder / kModelFile);
  for (const std::string& command :
       {small("third", words), small("run", "--resume-from '" + from + "'")}) {
    const Outcome refused = run(command);
    EXPECT_EQ(refused.code, 65) << command;
    EXPECT_THAT(refused.err, HasSubstr("was altered"));
    EXPECT_THAT(refused.err, HasSubstr(places[1].folder.string()));
  }
}

// The stored weights have to give the stored loss.
TEST_F(ResumeTest, AnotherProbeLossIsRefused) {
  ASSERT_EQ(run(small("run")).code, 0);
  scale_probe_loss("run", 1.001);
  const Outcome refused = run(small("run", "--resume --set train.steps=36"));
  EXPECT_EQ(refused.code, 65);
  EXPECT_THAT(refused.err, HasSubstr("on its probe row"));
}

// Threads leave no trace; another type is another layout, and is compared.
TEST_F(ResumeTest, GoesOnUnderAnotherLayout) {
  ASSERT_EQ(run(small("run", "--set train.precision=float32")).code, 0);
  fs::copy(folder_ / "run", folder_ / "copy", fs::copy_options::recursive);
  const std::string more = "--set train.steps=36 --set train.precision=";
  ASSERT_EQ(run(small("run", "--resume " + more + "float32")).code, 0);
  const Outcome threads =
      run(small("copy", "--resume --set train.threads=1 " + more + "float32"));
  ASSERT_EQ(threads.code, 0) << threads.err;
  EXPECT_EQ(final_state("copy"), final_state("run"));
  const Outcome wide = run(small("copy",
                                 "--resume --set train.threads=0 "
                                 "--set train.steps=40 "
                                 "--set train.precision=float64"));
  ASSERT_EQ(wide.code, 0) << wide.err;
  EXPECT_THAT(wide.err, HasSubstr("resume   probe loss "));
  EXPECT_EQ(losses("copy").size(), 40U);
}

TEST_F(ResumeTest, TheOneOfferedEndsWithTheSameBits) {
  ASSERT_EQ(run(small("run", "--set checkpoint.keep_last=5")).code, 0);
  const auto places = list_checkpoints(checkpoints("run"));
  ASSERT_GE(places.size(), 2U);
  const std::string whole = final_state("run");
  fs::resize_file(places[0].folder / kOptimizerFile, 1000);
  const Outcome resumed =
      run(small("run", "--resume-from " + places[1].folder.string()));
  EXPECT_EQ(resumed.code, 0) << resumed.err;
  EXPECT_EQ(final_state("run"), whole);
}

struct Damage {
  const char* name;
  std::function<void(const fs::path& newest)> inflict;
  const char* message;
};

class DamageTest : public RunFixture,
                   public testing::WithParamInterface<Damage> {};

TEST_P(DamageTest, IsRefusedByNameAndTheNextOneIsOffered) {
  ASSERT_EQ(run(small("run", "--set checkpoint.keep_last=5")).code, 0);
  const auto places = list_checkpoints(checkpoints("run"));
  GetParam().inflict(places[0].folder);
  const std::string config = read_file(folder_ / "run" / "config.toml");
  const std::string folder = (folder_ / "run").string();
  const std::string offered = places[1].folder.string();
  const auto refuse = [&](const std::string& command,
                          const std::string& offer) {
    const Outcome refused = run(command);
    EXPECT_EQ(refused.code, 65) << command;
    EXPECT_THAT(refused.err, HasSubstr(GetParam().message));
    EXPECT_THAT(refused.err,
                HasSubstr("checkpoint is " + offered + "; " + offer + "\n"))
        << command;
  };
  refuse(small("run", "--resume --set train.steps=60"),
         "to go on from it give --resume-from " + offered);
  const std::string instead = "to take its weights give that folder instead";
  refuse("generate '" + folder + "' --prompt x", instead);
  refuse("evaluate '" + folder + "'", instead);
  refuse(small("other", "--init-from '" + folder + "'"), instead);
  const Outcome taken =
      run("generate '" + offered + "' --prompt x --max-tokens 1");
  EXPECT_EQ(taken.code, 0) << taken.err;
  EXPECT_EQ(read_file(folder_ / "run" / "config.toml"), config);
  EXPECT_EQ(losses("run").size(), 30U);
}

INSTANTIATE_TEST_SUITE_P(
    Kinds, DamageTest,
    testing::Values(
        Damage{"Truncated",
               [](const fs::path& newest) {
                 fs::resize_file(newest / kOptimizerFile, 1000);
               },
               "step-000030/optimizer-00001-of-00001.safetensors: has 1000 "
               "bytes, its manifest says "},
        Damage{"BitFlipped",
               [](const fs::path& newest) { flip_a_bit(newest / kModelFile); },
               "step-000030/model-00001-of-00001.safetensors: was altered"},
        Damage{"Foreign",
               [](const fs::path& newest) {
                 write_file_atomically(newest / kManifestFile,
                                       R"({"format": "other"})");
               },
               "is not \"catena-checkpoint\": no checkpoint of Catena"},
        Damage{
            "WithoutManifest",
            [](const fs::path& newest) { fs::remove(newest / kManifestFile); },
            "step-000030: is no checkpoint: MANIFEST.json is missing"},
        Damage{"Empty",
               [](const fs::path& newest) {
                 fs::remove_all(newest);
                 fs::create_directory(newest);
               },
               "step-000030: is no checkpoint: MANIFEST.json is missing"},
        Damage{"Renamed",
               [](const fs::path& newest) {
                 fs::rename(newest, newest.parent_path() / "step-000040");
               },
               "step-000040: holds step 30: the folder was renamed"},
        Damage{"WrongVersion",
               [](const fs::path& newest) {
                 write_file_atomically(
                     newest / kManifestFile,
                     R"({"format": "catena-checkpoint", "version": 2})");
               },
               "is 2; this program reads version 1: use the program that "
               "wrote it"}),
    [](const auto& info) { return std::string(info.param.name); });

TEST_F(ResumeTest, WhatWasNeverFinishedIsPassedOverAndRemoved) {
  ASSERT_EQ(run(small("run")).code, 0);
  const auto newest = newest_checkpoint(checkpoints("run"))->folder;
  const fs::path unfinished = checkpoints("run") / ".unfinished-step-000033";
  fs::copy(newest, unfinished);
  fs::remove(unfinished / kManifestFile);
  const Outcome resumed = run(small("run", "--resume --set train.steps=36"));
  ASSERT_EQ(resumed.code, 0) << resumed.err;
  EXPECT_THAT(resumed.err, HasSubstr("resumed  " + newest.string()));
  EXPECT_FALSE(fs::exists(unfinished));
}

TEST_F(ResumeTest, AnEarlierCheckpointIsTheNewBeginning) {
  ASSERT_EQ(run(small("run", "--set checkpoint.keep_every=3")).code, 0);
  const fs::path folder = checkpoints("run");
  const std::string whole = final_state("run");
  const auto early = folder / "step-000003";
  ASSERT_TRUE(fs::exists(early));
  // Later ones neither count as kept nor are resumed from by mistake.
  const Outcome again =
      run(small("run", fmt::format("--resume-from {} --set train.steps=9",
                                   early.string())));
  EXPECT_EQ(again.code, 0) << again.err;
  EXPECT_TRUE(fs::exists(folder / "abandoned-step-000030"));
  EXPECT_EQ(newest_checkpoint(folder)->step, 9);
  EXPECT_EQ(losses("run").size(), 9U);
  ASSERT_EQ(run(small("run", "--resume")).code, 0);
  EXPECT_EQ(final_state("run"), whole);
  // By its bare name, from its own folder.
  const Outcome renamed = run(small(
      "run", "--resume-from " + (folder / "abandoned-step-000030").string()));
  EXPECT_EQ(renamed.code, 65);
  EXPECT_THAT(renamed.err, HasSubstr("is no checkpoint"));
}

TEST_F(ResumeTest, TwoProcessesDoNotShareARun) {
  const pid_t first = start(small("run", "--set train.steps=100000"));
  wait_for_metrics("\"catena_step\":5,");
  const fs::path out = folder_ / "second";
  const std::string command = fmt::format(
      "cd '{}' && '{}/catena' {} 2>'{}'", CATENA_SOURCE_DIR, CATENA_BINARY_DIR,
      small("run", "--resume --set train.steps=100000"), out.string());
  EXPECT_EQ(WEXITSTATUS(std::system(command.c_str())), 64);
  EXPECT_THAT(read_file(out), HasSubstr("another process is training there"));
  ::kill(first, SIGKILL);
  (void)wait(first);
}

TEST_F(ResumeTest, SpikesAreSkippedOrRewoundAndCounted) {
  const std::string eager =
      "--set spikes.deviations=1 --set train.steps=60 "
      "--set spikes.most_in_a_row=60 --set learning_rate.peak=0.05 ";
  const Outcome skipped = run(small("run", eager + "--set spikes.action=skip"));
  ASSERT_EQ(skipped.code, 0) << skipped.err;
  const auto count = result("run")["steps_skipped"].get<int>();
  EXPECT_GT(count, 0);
  EXPECT_THAT(skipped.err, HasSubstr(fmt::format("({} so far)", count)));
  EXPECT_THAT(read_file(folder_ / "run" / "metrics.jsonl"),
              HasSubstr("\"step_skipped\""));

  // Fewer spikes: on a slow disk checkpoints are few, and every rewind to one
  // has to get beyond the next.
  const Outcome back = run(small("back", eager + "--set spikes.action=rewind "
                                                 "--set spikes.deviations=2"));
  ASSERT_EQ(back.code, 0) << back.err;
  EXPECT_GT(result("back")["rewinds"].get<int>(), 0);
  EXPECT_THAT(back.err, HasSubstr("back to step "));
}

TEST_F(ResumeTest, StepsThatAreNotFiniteAreNeverTaken) {
  // The second step is not finite, and every one after it.
  const Outcome lost =
      run(small("run",
                "--set learning_rate.peak=1e12 --set optimizer.clip=0 "
                "--set spikes.action=skip --set spikes.most_in_a_row=40 --set "
                "train.steps=60 "
                "--set checkpoint.every=1 --set checkpoint.keep_last=99"));
  EXPECT_EQ(lost.code, 76) << lost.err;
  EXPECT_THAT(lost.err, HasSubstr("is not finite; skipped (40 so far)"));
  EXPECT_THAT(lost.err, Not(HasSubstr("skipped (41 so far)")));
  // The weights are those of the only step that was taken.
  const auto weights = [](const CheckpointPlace& place) {
    const auto file = Safetensors::open(place.folder / kModelFile);
    std::string bytes;
    for (const std::string& name : file.names()) {
      const auto data = file.find(name).data;
      bytes.append(reinterpret_cast<const char*>(data.data()), data.size());
    }
    return bytes;
  };
  const auto places = list_checkpoints(checkpoints("run"));
  ASSERT_GE(places.size(), 2U);
  EXPECT_EQ(places.back().step, 1);
  EXPECT_EQ(weights(places.front()), weights(places.back()));
  EXPECT_EQ(result("run")["state"], "failed");
  EXPECT_EQ(result("run")["steps_skipped"], 40);
  EXPECT_THAT(result("run")["error"], HasSubstr("is not finite"));
  EXPECT_THAT(lost.err,
              HasSubstr(fmt::format("the last saved weights are in {}",
                                    places.front().folder.string())));
}

TEST_F(ResumeTest, ARunThatEndsBeforeItSavedDoesNotSayItDid) {
  const std::string lost =
      "--set learning_rate.peak=1e12 --set optimizer.clip=0 "
      "--set spikes.most_in_a_row=4 --set checkpoint.every=0 ";
  for (const std::string action : {"skip", "rewind"}) {
    const Outcome ended =
        run(small(action, lost + "--set spikes.action=" + action));
    EXPECT_EQ(ended.code, 76) << ended.err;
    EXPECT_TRUE(list_checkpoints(checkpoints(action)).empty());
    EXPECT_THAT(ended.err, AllOf(HasSubstr("no weights were saved"),
                                 Not(HasSubstr("weights are in"))));
  }
}

}  // namespace
}  // namespace catena
