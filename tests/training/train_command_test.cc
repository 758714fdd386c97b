// The programs themselves, as a user runs them.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "runtime/base/error.h"
#include "runtime/base/files.h"

namespace catena {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

struct Outcome {
  int code;
  std::string out, err;
};

class TrainCommandTest : public testing::Test {
 protected:
  TrainCommandTest()
      : folder_(fs::path(testing::TempDir()) /
                fmt::format("train-{}-{}", ::getpid(), ++count_)) {
    fs::create_directories(folder_);
    write_file_atomically(folder_ / "tiny.toml", kTiny);
  }
  ~TrainCommandTest() override { fs::remove_all(folder_); }

  /// Runs from the source folder, where data/quickstart is.
  Outcome run(const std::string& arguments) const {
    const fs::path out = folder_ / "out", err = folder_ / "err";
    const std::string command = fmt::format(
        "cd '{}' && '{}/catena' {} >'{}' 2>'{}' </dev/null", CATENA_SOURCE_DIR,
        CATENA_BINARY_DIR, arguments, out.string(), err.string());
    const int status = std::system(command.c_str());
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, read_file(out),
            read_file(err)};
  }
  [[nodiscard]] std::string train(const std::string& more = "") const {
    return fmt::format(
        "train '{0}/tiny.toml' --set run.folder='{0}/run' --set "
        "data.cache='{0}/cache' {1}",
        folder_.string(), more);
  }

  static constexpr const char* kTiny = R"(
[model]
hidden = 32
layers = 2
vocabulary = 2048
max_positions = 128
[model.attention]
heads = 2
kv_lora_rank = 16
qk_nope_size = 8
qk_rope_size = 8
v_size = 8
[model.chain]
routed_experts = 7
top_k = 2
intermediate = 16
[data]
train = "data/quickstart/val.jsonl"
validation = "data/quickstart/val.jsonl"
tokenizer = "data/quickstart/tokenizer.json"
sequence = 128
[train]
steps = 6
batch_tokens = 1024
micro_batch_tokens = 512
[learning_rate]
peak = 1e-2
[validation]
every = 3
rows = 8
[run]
prompts = ["What is 1 + 1?"]
)";
  static inline int count_ = 0;
  fs::path folder_;
};

TEST_F(TrainCommandTest, TrainsSavesAndGenerates) {
  const Outcome trained = run(train());
  ASSERT_EQ(trained.code, 0) << trained.err;
  EXPECT_THAT(trained.out, HasSubstr("question: What is 1 + 1?\nanswer:"));
  EXPECT_THAT(trained.err, HasSubstr("step 6/6  loss "));
  EXPECT_THAT(trained.err, HasSubstr("catena generate "));
  const fs::path run_folder = folder_ / "run";
  const auto result =
      nlohmann::json::parse(read_file(run_folder / "result.json"));
  EXPECT_EQ(result["step"], 6);
  EXPECT_LT(result["validation_loss_after"].get<double>(),
            result["validation_loss_before"].get<double>());
  std::ifstream metrics(run_folder / "metrics.jsonl");
  int steps = 0, validations = 0;
  for (std::string line; std::getline(metrics, line);) {
    const auto json = nlohmann::json::parse(line);
    steps += json["catena_loss"].contains("train");
    validations += json["catena_loss"].contains("validation");
  }
  EXPECT_EQ(steps, 6);
  EXPECT_EQ(validations, 3);  // before, at step 3, after
  std::ifstream routing(run_folder / "routing.jsonl");
  int transitions = 0;
  for (std::string line; std::getline(routing, line);) {
    const auto json = nlohmann::json::parse(line);
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
  const auto second =
      nlohmann::json::parse(read_file(folder_ / "run-2" / "result.json"));
  EXPECT_EQ(second["validation_loss_after"], result["validation_loss_after"]);
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
  expect("generate '" + folder_.string() + "' --prompt x", 65,
         "is no finished run");
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
}

TEST_F(TrainCommandTest, InterruptEndsAfterTheStepAndSavesWeights) {
  const pid_t child = ::fork();
  if (child == 0) {
    if (::chdir(CATENA_SOURCE_DIR) != 0) ::_exit(99);
    if (std::freopen((folder_ / "err").c_str(), "w", stderr) == nullptr) {
      ::_exit(98);
    }
    const std::string program = std::string(CATENA_BINARY_DIR) + "/catena";
    const std::string config = (folder_ / "tiny.toml").string();
    const std::string target = "run.folder=" + (folder_ / "run").string();
    const std::string cache = "data.cache=" + (folder_ / "cache").string();
    ::execl(program.c_str(), "catena", "train", config.c_str(), "--set",
            "train.steps=100000", "--set", target.c_str(), "--set",
            cache.c_str(), nullptr);
    ::_exit(97);
  }
  const fs::path metrics = folder_ / "run" / "metrics.jsonl";
  for (int i = 0;
       i < 600 && (!fs::exists(metrics) ||
                   read_file(metrics).find("\"train\"") == std::string::npos);
       ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  ::kill(child, SIGINT);
  int status = 0;
  ::waitpid(child, &status, 0);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 75) << read_file(folder_ / "err");
  EXPECT_TRUE(fs::exists(folder_ / "run" / "model.safetensors"));
  const auto result =
      nlohmann::json::parse(read_file(folder_ / "run" / "result.json"));
  EXPECT_EQ(result["state"], "stopped");
}

}  // namespace
}  // namespace catena
