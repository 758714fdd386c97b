// The programs themselves, as a user runs them.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "tests/support/json.h"
#include "tests/training/command_fixture.h"

namespace catena {
namespace {

using testing::HasSubstr;

using TrainCommandTest = CommandFixture;

TEST_F(TrainCommandTest, TrainsSavesAndGenerates) {
  const Outcome trained = run(train());
  ASSERT_EQ(trained.code, 0) << trained.err;
  EXPECT_THAT(trained.out, HasSubstr("question: What is 1 + 1?\nanswer:"));
  EXPECT_THAT(trained.err, HasSubstr("step 6/6  loss "));
  EXPECT_THAT(trained.err, HasSubstr("catena generate "));
  const fs::path run_folder = folder_ / "run";
  const auto result = json_of(read_file(run_folder / "result.json"));
  EXPECT_EQ(result["step"], 6);
  EXPECT_LT(result["validation_loss_after"].get<double>(),
            result["validation_loss_before"].get<double>());
  std::ifstream metrics(run_folder / "metrics.jsonl");
  int steps = 0, validations = 0;
  for (std::string line; std::getline(metrics, line);) {
    const auto json = json_of(line);
    steps += json["catena_loss"].contains("train");
    validations += json["catena_loss"].contains("validation");
  }
  EXPECT_EQ(steps, 6);
  EXPECT_EQ(validations, 3);  // before, at step 3, after
  std::ifstream routing(run_folder / "routing.jsonl");
  int transitions = 0;
  for (std::string line; std::getline(routing, line);) {
    const auto json = json_of(line);
    ASSERT_EQ(json["load"].size(), 7U);
    transitions += json.contains("transitions");
  }
  EXPECT_EQ(transitions, 2);  // two layers, from iteration 0 to 1

  const Outcome again =
      run("generate '" + run_folder.string() + "' --prompt 'What is 1 + 1?'");
  EXPECT_EQ(again.code, 0) << again.err;
  EXPECT_THAT(trained.out, HasSubstr(again.out));

  // The resolved configuration runs again, to the same numbers.
  const Outcome repeated =
      run("train '" + (run_folder / "config.toml").string() + "'");
  ASSERT_EQ(repeated.code, 0) << repeated.err;
  const auto second = json_of(read_file(folder_ / "run-2" / "result.json"));
  EXPECT_EQ(second["validation_loss_after"], result["validation_loss_after"]);
}

// What status, page and logs show is how the run stands, not how a launcher
// before has ended.
TEST_F(TrainCommandTest, GoingOnWithAnEndedJobTakesItsEndAway) {
  ASSERT_EQ(run(train()).code, 0);
  const fs::path job = folder_ / "run" / "job.json";
  const auto go_on = [&](int steps, const std::string& before) {
    write_file_atomically(job, R"({"state": "SUCCEEDED", "exit_code": 0})");
    const Outcome outcome =
        run(train(fmt::format("--resume --set train.steps={}", steps)), before);
    EXPECT_EQ(outcome.code, 0) << outcome.err;
  };
  go_on(7, "");
  EXPECT_FALSE(fs::exists(job));
  go_on(8, "export CATENA_JOB_ID=abc;");
  EXPECT_TRUE(fs::exists(job)) << "a launcher's, who started it";
}

TEST_F(TrainCommandTest, ResumesTheHighestOfRunsWhereOneIsGone) {
  const std::string short_run = "--set train.steps=1 --set run.prompts= ";
  for (int i = 0; i < 3; ++i) ASSERT_EQ(run(train(short_run)).code, 0);
  fs::remove_all(folder_ / "run-2");
  const Outcome resumed = run(train("--resume --set train.steps=2"));
  ASSERT_EQ(resumed.code, 0) << resumed.err;
  EXPECT_EQ(json_of(read_file(folder_ / "run-3" / "result.json"))["step"], 2);
  EXPECT_FALSE(fs::exists(folder_ / "run-2"));
}

// It is named in tokenizer_config.json alone.
TEST_F(TrainCommandTest, ARunKnowsItsEndOfTextToken) {
  std::string json =
      read_file(fs::path(CATENA_SOURCE_DIR) / "data/quickstart/tokenizer.json");
  const std::string known = "<|endoftext|>";
  for (std::size_t at; (at = json.find(known)) != std::string::npos;) {
    json.replace(at, known.size(), "<stop>");
  }
  static_cast<void>(write("words/tokenizer.json", json));
  const std::string names = R"({"eos_token": "<stop>"})";
  static_cast<void>(write("words/tokenizer_config.json", names));
  for (const char* given : {"words", "words/tokenizer.json"}) {
    fs::remove_all(folder_ / "run");
    const Outcome trained =
        run(train(fmt::format("--set data.tokenizer='{}/{}' --set "
                              "train.steps=1 --set run.prompts=",
                              folder_.string(), given)));
    ASSERT_EQ(trained.code, 0) << trained.err;
    EXPECT_EQ(read_file(folder_ / "run" / "tokenizer_config.json"), names);
  }
  const Outcome evaluated =
      run("evaluate '" + (folder_ / "run").string() + "' --rows 1");
  EXPECT_EQ(evaluated.code, 0) << evaluated.err;
}

TEST_F(TrainCommandTest, ALauncherIsToldOfNoPathThatIsNotText) {
  program_ = "catena-train";
  const fs::path place = folder_ / "w\xFF";
  fs::create_directory(place);
  const Outcome begun =
      run(fmt::format("begin '{}/tiny.toml' --set run.folder=run",
                      folder_.string()),
          "cd '" + place.string() + "';");
  EXPECT_EQ(begun.code, 78) << begun.err;
  EXPECT_EQ(begun.out, "");
  EXPECT_THAT(begun.err, HasSubstr("w\xFF/run: is no UTF-8"));
  EXPECT_FALSE(fs::exists(place / "run"));
}

TEST_F(TrainCommandTest, BadInputIsOneLineAndACode) {
  const auto expect = [&](const std::string& arguments, int code,
                          const std::string& message) {
    const Outcome outcome = run(arguments);
    EXPECT_EQ(outcome.code, code) << arguments << "\n" << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr(message)) << arguments;
  };
  expect("train nothing.toml", 78, "nothing.toml");
  expect(train("--set model.chain.top_k=9"), 78,
         "model.chain.top_k: chooses 9 experts of 7");
  expect(train("--set model.chain.iteration=2"), 78,
         "did you mean model.chain.iterations?");
  expect(train("--set data.train=missing.jsonl"), 65, "missing.jsonl");
  expect(train("--set data.sequence=1"), 78, "data.sequence");
  expect(train("--set model.vocabulary=100"), 78, "has 2048 tokens");
  expect(train("--set model.router.groups=7 --set model.router.top_groups=1"),
         78, "the 1 allowed groups hold only 1");
  expect(train("--set train.micro_batch_tokens=1073741824 --set "
               "train.batch_tokens=1073741824"),
         71, "train.micro_batch_tokens");
  expect(train("--set learning_rate.peak=1e12 --set optimizer.clip=0"), 76,
         "not finite. It began in");
  expect("generate '" + folder_.string() + "' --prompt x", 65, "is no run");
  expect("train", 64, "config");
  expect("trian x", 64, "did you mean train");
}

TEST_F(TrainCommandTest, MalformedRowsAreNamedOrSkipped) {
  std::string rows;
  for (int i = 0; i < 50; ++i) {
    rows += fmt::format("{{\"text\": \"{} and {} is {}\"}}\n", i, i, 2 * i);
  }
  write_file_atomically(folder_ / "bad.jsonl", rows + "{\"text\": 3}\n");
  const std::string set =
      fmt::format("--set data.train='{}/bad.jsonl'", folder_.string());
  const Outcome refused = run(train(set));
  EXPECT_EQ(refused.code, 65);
  EXPECT_THAT(refused.err, HasSubstr("bad.jsonl:51:"));
  const Outcome skipped = run(train(set + " --set data.skip_bad_rows=true"));
  EXPECT_EQ(skipped.code, 0) << skipped.err;
  EXPECT_THAT(skipped.err,
              HasSubstr("1 malformed rows of data.train were skipped"));
}

}  // namespace
}  // namespace catena
