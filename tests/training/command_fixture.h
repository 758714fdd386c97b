#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <string>
#include <thread>

#include "runtime/base/error.h"
#include "runtime/base/files.h"

namespace catena {

namespace fs = std::filesystem;

/// What a program that has ended left.
struct Outcome {
  int code;
  std::string out, err;
};

/// Runs the programs as a user does, on a tiny model, in a folder of its own.
class CommandFixture : public testing::Test {
 protected:
  CommandFixture()
      : folder_(fs::path(testing::TempDir()) /
                fmt::format("train-{}-{}", ::getpid(), ++count_)) {
    fs::create_directories(folder_);
    write_file_atomically(folder_ / "tiny.toml", kTiny);
  }
  ~CommandFixture() override { fs::remove_all(folder_); }

  /// Runs from the source folder, where data/quickstart is.
  /// `before`, such as "ulimit -f 100;", is said to the shell first; standard
  /// input is empty unless `arguments` redirect it.
  Outcome run(const std::string& arguments,
              const std::string& before = "") const {
    return wait(start(arguments, before));
  }
  /// The same without waiting: signals sent to the process reach the trainer.
  /// `name` tells processes that run at the same time apart.
  pid_t start(const std::string& arguments, const std::string& before = "",
              const std::string& name = "") const {
    const std::string command =
        fmt::format("cd '{}' && {} exec {} '{}/{}' </dev/null {} >'{}' 2>'{}'",
                    CATENA_SOURCE_DIR, before, under_, CATENA_BINARY_DIR,
                    program_, arguments, (folder_ / (name + "out")).string(),
                    (folder_ / (name + "err")).string());
    const pid_t child = ::fork();
    if (child == 0) {
      ::execl("/bin/sh", "sh", "-c", command.c_str(), nullptr);
      ::_exit(127);
    }
    return child;
  }
  /// code: the exit code, or 128 + the signal that ended it.
  Outcome wait(pid_t child, const std::string& name = "") const {
    int status = 0;
    ::waitpid(child, &status, 0);
    return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status),
            read_file(folder_ / (name + "out")),
            read_file(folder_ / (name + "err"))};
  }
  /// Expects this exit code and one line on standard error alone, which begins
  /// with "error: " and holds `message`.
  void expect_refused(const std::string& arguments, int code,
                      const std::string& message) const {
    const Outcome outcome = run(arguments);
    EXPECT_EQ(outcome.code, code) << arguments;
    EXPECT_EQ(outcome.out, "") << arguments;
    EXPECT_THAT(outcome.err, testing::AllOf(testing::StartsWith("error: "),
                                            testing::HasSubstr(message),
                                            testing::EndsWith("\n")))
        << arguments;
    EXPECT_EQ(outcome.err.find('\n') + 1, outcome.err.size()) << outcome.err;
  }
  /// Writes a file of this test's folder; its path.
  [[nodiscard]] std::string write(const std::string& name,
                                  const std::string& content) const {
    write_file_atomically(folder_ / name, content);
    return (folder_ / name).string();
  }
  /// Longer than any row: rows are full, as a plan takes them to be.
  static std::string long_documents() {
    std::string text;
    for (int document = 0; document < 24; ++document) {
      for (int i = 0; i < 1500; ++i) {
        text += fmt::format("{} and {} make {}. ", i, document, i + document);
      }
      text += "\f";
    }
    return text;
  }
  /// Waits until the run's metrics hold `text`, half a minute at most.
  void wait_for_metrics(const std::string& text) const {
    const fs::path metrics = folder_ / "run" / "metrics.jsonl";
    for (int i = 0; i < 3000; ++i) {
      if (fs::exists(metrics) &&
          read_file(metrics).find(text) != std::string::npos) {
        return;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    ADD_FAILURE() << "no " << text << " in " << metrics;
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
  std::string under_;  ///< a program that starts it, with its arguments
  std::string program_ = "catena";
};

}  // namespace catena
