// catena plan and evaluate, as a user runs them.

#include "tests/support/json.h"
#include "tests/training/command_fixture.h"

namespace catena {
namespace {

using testing::HasSubstr;
using EvaluateCommandTest = CommandFixture;

TEST_F(EvaluateCommandTest, MeasuresLossAndAnswers) {
  ASSERT_EQ(run(train("--set run.prompts=")).code, 0);
  const std::string run_folder = (folder_ / "run").string();
  const auto trained = json_of(read_file(folder_ / "run" / "result.json"));
  write_file_atomically(folder_ / "q.jsonl",
                        "{\"question\": \"1 + 1?\", \"answer\": \"#### 2\"}\n"
                        "{\"question\": \"2 + 1?\", \"answer\": \"#### 3\"}\n");
  const Outcome json =
      run(fmt::format("evaluate '{}' --json --max-tokens 5 --questions "
                      "'{}/q.jsonl' --limit 1",
                      run_folder, folder_.string()));
  ASSERT_EQ(json.code, 0) << json.err;
  const auto result = json_of(json.out);
  EXPECT_NEAR(result["loss"], trained["validation_loss_after"], 2e-3);
  EXPECT_GT(result["standard_error"], 0);
  EXPECT_EQ(result["rows"], 8);
  EXPECT_EQ(result["questions"], 1);
  const Outcome text = run(fmt::format("evaluate '{}' --rows 3", run_folder));
  ASSERT_EQ(text.code, 0) << text.err;
  EXPECT_THAT(text.out, HasSubstr(" in 3 rows\n"));
  const std::string one = fmt::format("evaluate '{}' --rows 1", run_folder);
  EXPECT_THAT(run(one).out, HasSubstr(" +- unknown (one row) over "));
  EXPECT_TRUE(json_of(run(one + " --json").out)["standard_error"].is_null());
  const Outcome missing = run("evaluate '" + folder_.string() + "'");
  EXPECT_EQ(missing.code, 65);
  EXPECT_THAT(missing.err, HasSubstr("is no run"));
}

// Beyond the model's longest sequence.
TEST_F(EvaluateCommandTest, AQuestionThatIsTooLongSpoilsNothingElse) {
  std::string words;
  for (int i = 0; i < 500; ++i) words += "q7";
  const Outcome trained = run(
      train(fmt::format("--set 'run.prompts=[\"{}\", \"1 + 1?\"]'", words)));
  EXPECT_EQ(trained.code, 0) << trained.err;
  EXPECT_THAT(trained.err,
              testing::AllOf(HasSubstr("done: 6 steps"),
                             HasSubstr("not answered: the prompt has ")));
  EXPECT_THAT(trained.out, HasSubstr("\nquestion: 1 + 1?\nanswer:"));
  const std::string questions = write(
      "q.jsonl",
      fmt::format("{{\"question\": \"{}\", \"answer\": \"#### 2\"}}\n"
                  "{{\"question\": \"2 + 1?\", \"answer\": \"#### 3\"}}\n",
                  words));
  const Outcome evaluated =
      run(fmt::format("evaluate '{}/run' --max-tokens 5 --questions '{}'",
                      folder_.string(), questions));
  EXPECT_EQ(evaluated.code, 0) << evaluated.err;
  EXPECT_THAT(evaluated.err,
              HasSubstr("question 1 counts as not right: the prompt has "));
  EXPECT_THAT(evaluated.out, testing::AllOf(HasSubstr("validation loss "),
                                            HasSubstr(" of 2 questions")));
}

// Its only row ends before the response begins.
TEST_F(EvaluateCommandTest, RefusesRowsWithoutATrainedToken) {
  ASSERT_EQ(run(train("--set run.prompts=")).code, 0);
  std::string query;
  for (int i = 0; i < 200; ++i) query += fmt::format("{} and ", i);
  const std::string data =
      write("long.jsonl",
            fmt::format("{{\"query\": \"{}\", \"response\": \"7\"}}\n", query));
  expect_refused(fmt::format("evaluate '{}' --data '{}' --set "
                             "data.packing=padded --set data.loss=response",
                             (folder_ / "run").string(), data),
                 65, "data.validation: no token of its 1 rows is trained on");
}

TEST_F(EvaluateCommandTest, TakesTheCheckpointThatIsGiven) {
  ASSERT_EQ(run(train("--set run.prompts= --set checkpoint.every=3")).code, 0);
  const fs::path checkpoints = folder_ / "run" / "checkpoints";
  const auto loss = [&](const fs::path& given) {
    const Outcome outcome = run("evaluate '" + given.string() + "' --json");
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    return outcome.code == 0 ? json_of(outcome.out)["loss"].get<double>() : 0;
  };
  EXPECT_EQ(loss(checkpoints / "step-000006"), loss(folder_ / "run"));
  EXPECT_GT(loss(checkpoints / "step-000003" / ""), loss(folder_ / "run"));
  const std::string generate = "' --prompt x --max-tokens 1";
  const Outcome said =
      run("generate '" + (checkpoints / "step-000003").string() + generate);
  EXPECT_EQ(said.code, 0) << said.err;
  // From inside of it.
  const Outcome here =
      run("generate '." + generate,
          "cd '" + (checkpoints / "step-000003").string() + "';");
  EXPECT_EQ(here.code, 0) << here.err;
  EXPECT_EQ(here.out, said.out);
  // One that is of no run any more.
  fs::rename(checkpoints / "step-000003", folder_ / "step-000003");
  const Outcome alone =
      run("generate '" + (folder_ / "step-000003").string() + generate);
  EXPECT_EQ(alone.code, 65);
  EXPECT_THAT(alone.err, HasSubstr("is no run"));
}

// A model that has learnt to answer nothing but seven.
TEST_F(EvaluateCommandTest, CountsTheAnswersThatAreRight) {
  std::string rows;
  for (int i = 0; i < 200; ++i) {
    rows += fmt::format(
        "{{\"query\": \"What is {} + {}?\", \"response\": \"7\"}}\n", i % 20,
        i / 10);
  }
  const std::string sevens = write("sevens.jsonl", rows);
  ASSERT_EQ(run(train(fmt::format("--set data.train='{0}' --set "
                                  "data.validation='{0}' --set train.steps=40 "
                                  "--set validation.every=0 "
                                  "--set run.prompts=",
                                  sevens)))
                .code,
            0);
  const std::string questions =
      write("questions.jsonl",
            "{\"question\": \"What is 3 + 4?\", \"answer\": \"#### 7\"}\n"
            "{\"question\": \"What is 4 + 4?\", \"answer\": \"#### 8\"}\n"
            "{\"question\": \"What is 5 + 2?\", \"answer\": \"It is 7.\"}\n");
  const std::string command =
      fmt::format("evaluate '{}' --max-tokens 8 --questions '{}'",
                  (folder_ / "run").string(), questions);
  const Outcome json = run(command + " --json");
  ASSERT_EQ(json.code, 0) << json.err;
  EXPECT_EQ(json_of(json.out)["exact_match"], 2) << json.out;
  EXPECT_THAT(run(command).out, HasSubstr("exact match 2 of 3 questions"));
}

TEST_F(EvaluateCommandTest, PlanSaysWhatIsTooLargeAndWhy) {
  const Outcome large =
      run(fmt::format("plan '{}/tiny.toml' --set model.hidden=65536 "
                      "--set model.chain.routed_experts=4096",
                      folder_.string()));
  EXPECT_EQ(large.code, 0) << large.err;
  EXPECT_THAT(large.err,
              HasSubstr("does not fit this machine: this run needs"));
  EXPECT_THAT(large.err, HasSubstr("Lower train.micro_batch_tokens"));
  EXPECT_THAT(large.err, HasSubstr("train.recompute"));
}

TEST_F(EvaluateCommandTest, PlanForetellsFromTheTableOfARun) {
  const std::string keys = fmt::format(
      "'{0}/tiny.toml' --set data.cache='{0}/cache' --set train.steps=12",
      folder_.string());
  const Outcome before = run("plan " + keys);
  ASSERT_EQ(before.code, 0) << before.err;
  EXPECT_THAT(before.out, HasSubstr("leaves a kernel table"));
  ASSERT_EQ(run(train("--set train.steps=12 --set run.prompts=")).code, 0);
  const Outcome after = run("plan --json " + keys);
  ASSERT_EQ(after.code, 0) << after.err;
  const auto plan = json_of(after.out);
  EXPECT_GT(plan["step_seconds"], 0);
  EXPECT_THAT(plan["step_seconds_from"], HasSubstr("kernels-"));
  EXPECT_EQ(plan["fits"], true);
}

}  // namespace
}  // namespace catena
