#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "tests/support/json.h"
#include "tests/training/command_fixture.h"

namespace catena {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr const char* kTokenizer = "data/quickstart/tokenizer.json";

/// `catena data prepare | inspect | tokenizer | encode`, as a user runs them.
class DataCommandTest : public CommandFixture {
 protected:
  /// Three documents.
  [[nodiscard]] std::string corpus() const {
    return write("three.jsonl",
                 "{\"query\": \"What is 1 + 1?\", \"response\": \"2\"}\n"
                 "{\"text\": \"one and one\"}\n"
                 "{\"text\": \"two\"}\n");
  }
  /// Two good rows; the second and the third line are bad.
  [[nodiscard]] std::string damaged() const {
    return write("bad.jsonl",
                 "{\"text\": \"a b\"}\n"
                 "{\"text\": oops}\n"
                 "{\"query\": \"x\"}\n"
                 "{\"text\": \"c\"}\n");
  }
  [[nodiscard]] std::string prepare(const std::string& input,
                                    const std::string& more = "") const {
    return fmt::format("data prepare --input '{}' --tokenizer {} --output '{}'",
                       input, kTokenizer, output().string()) +
           " " + more;
  }
  [[nodiscard]] std::string train_tokenizer(
      const std::string& input, int vocabulary,
      const std::string& more = "") const {
    return fmt::format(
        "data tokenizer --input '{}' --vocabulary {} --output '{}' {}", input,
        vocabulary, trained_tokenizer().string(), more);
  }
  [[nodiscard]] std::string encode(const std::string& tokenizer,
                                   const std::string& text,
                                   const std::string& more = "") const {
    const Outcome outcome =
        run(fmt::format("data encode --tokenizer '{}' <'{}' {}", tokenizer,
                        write("text", text), more));
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_EQ(outcome.err, "");
    return outcome.out;
  }
  [[nodiscard]] nlohmann::json inspect(const std::string& more = "") const {
    const Outcome outcome = run(
        fmt::format("data inspect '{}' --json {}", output().string(), more));
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    return json_of(outcome.out);
  }
  [[nodiscard]] fs::path output() const { return folder_ / "prepared"; }
  [[nodiscard]] fs::path trained_tokenizer() const {
    return folder_ / "trained.json";
  }
};

std::set<std::string> names_in(const fs::path& folder) {
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) {
    names.insert(entry.path().filename().string());
  }
  return names;
}

TEST_F(DataCommandTest, PrepareSaysWhatItWrote) {
  const Outcome outcome = run(prepare(corpus()));
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(outcome.err, "prepare: 100 % of 0.0 MB\n");
  EXPECT_EQ(names_in(output()),
            (std::set<std::string>{"dataset.json", "index.bin",
                                   "tokenizer.json", "tokens-00000.bin"}));
  EXPECT_EQ(read_file(output() / "tokenizer.json"),
            read_file(fs::path(CATENA_SOURCE_DIR) / kTokenizer));
  const nlohmann::json shown = inspect();
  EXPECT_EQ(outcome.out,
            fmt::format("{}: 3 documents, {} tokens ({} of responses), 1 "
                        "shards, 0 bad rows\n",
                        output().string(), shown["tokens"].get<int>(),
                        shown["response_tokens"].get<int>()));
}

TEST_F(DataCommandTest, InspectShowsTheRows) {
  ASSERT_EQ(run(prepare(corpus())).code, 0);
  const nlohmann::json shown = inspect("--rows 2");
  EXPECT_EQ(shown["documents"], 3);
  EXPECT_EQ(shown["vocabulary"], 2048);
  EXPECT_EQ(shown["bad_rows"], 0);
  EXPECT_EQ(shown["append_end_of_text"], true);
  ASSERT_EQ(shown["samples"].size(), 2U);
  EXPECT_EQ(shown["samples"][0]["query"], "query : What is 1 + 1? response :");
  EXPECT_EQ(shown["samples"][0]["response"], " 2<|endoftext|>");
  EXPECT_EQ(shown["samples"][1]["query"], "");
  EXPECT_EQ(shown["samples"][1]["response"], "one and one<|endoftext|>");
  const Outcome text =
      run(fmt::format("data inspect '{}' --rows 1", output().string()));
  EXPECT_EQ(text.code, 0);
  EXPECT_EQ(text.err, "");
  EXPECT_THAT(text.out, HasSubstr("vocabulary 2048, end of text 0 behind each "
                                  "document, 0 bad rows skipped\n"));
  EXPECT_THAT(text.out, HasSubstr("tokens a document: min "));
  EXPECT_THAT(text.out, HasSubstr("--- response ---\n 2<|endoftext|>\n"));
  EXPECT_THAT(text.out, Not(HasSubstr("[1]")));
  EXPECT_THAT(
      run(fmt::format("data inspect '{}' --rows 0", output().string())).out,
      Not(HasSubstr("[0]")));
}

// Of three the second holds 34 to 66 percent.
TEST_F(DataCommandTest, PercentilesAreByNearestRank) {
  ASSERT_EQ(run(prepare(corpus())).code, 0);
  const nlohmann::json lengths = inspect("--rows 0")["length_percentiles"];
  EXPECT_EQ(lengths["10"], lengths["0"]);
  EXPECT_GT(lengths["50"], lengths["10"]);
  EXPECT_GT(lengths["90"], lengths["50"]);
  EXPECT_EQ(lengths["90"], lengths["100"]);
  EXPECT_EQ(lengths["99"], lengths["100"]);
}

TEST_F(DataCommandTest, PrepareTakesTheTemplateAndLeavesOutTheEnd) {
  ASSERT_EQ(run(prepare(corpus(),
                        "--no-eos --threads 1 --template "
                        "'Q: {query} A:{response}'"))
                .code,
            0);
  const nlohmann::json shown = inspect("--rows 1");
  EXPECT_EQ(shown["append_end_of_text"], false);
  EXPECT_EQ(shown["samples"][0]["query"], "Q: What is 1 + 1? A:");
  EXPECT_EQ(shown["samples"][0]["response"], "2");
}

TEST_F(DataCommandTest, PrepareKeepsADataSetThatIsThere) {
  ASSERT_EQ(run(prepare(corpus())).code, 0);
  const std::string before = read_file(output() / "tokens-00000.bin");
  expect_refused(prepare("data/quickstart/val.jsonl"), 64,
                 "prepared: already holds a data set; choose another folder");
  EXPECT_EQ(read_file(output() / "tokens-00000.bin"), before);
}

TEST_F(DataCommandTest, BadRowsAreNamedByFileAndLine) {
  const std::string first = damaged() + ":2:10: not valid JSON";
  expect_refused(prepare(damaged()), 65, first);
  EXPECT_FALSE(fs::exists(output() / "dataset.json"));
  expect_refused(train_tokenizer(damaged(), 300), 65, first);
  EXPECT_FALSE(fs::exists(trained_tokenizer()));
}

TEST_F(DataCommandTest, SkippedRowsAreCountedAndNamed) {
  for (const std::string& command :
       {prepare(damaged()), train_tokenizer(damaged(), 257)}) {
    const Outcome outcome = run(command + " --skip-bad-rows");
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_THAT(outcome.out, HasSubstr("2 documents"));
    EXPECT_THAT(outcome.err, HasSubstr("warning: skipped: " + damaged() +
                                       ":2:10: not valid JSON"));
    EXPECT_THAT(outcome.err,
                HasSubstr("warning: skipped: " + damaged() +
                          ":3:1: the row has \"query\" but no \"response\"\n"));
    EXPECT_THAT(outcome.err, testing::EndsWith("\nwarning: skipped 2 bad "
                                               "rows\n"));
  }
  EXPECT_EQ(inspect()["bad_rows"], 2);
}

TEST_F(DataCommandTest, TokenizerIsTrainedAlikeWithAnyThreads) {
  std::string first;
  for (const char* threads : {"--threads 1", "--threads 3"}) {
    const Outcome outcome =
        run(train_tokenizer("data/quickstart/val.jsonl", 300, threads));
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_EQ(outcome.out, trained_tokenizer().string() +
                               ": 300 tokens from 140 documents\n");
    const std::string json = read_file(trained_tokenizer());
    EXPECT_EQ(json_of(json)["model"]["vocab"].size(), 300U);
    if (first.empty()) first = json;
    EXPECT_EQ(json, first);
  }
  EXPECT_NE(encode(trained_tokenizer().string(), "the answer"), "\n");
}

TEST_F(DataCommandTest, TokenizerSaysWhenTheTextIsTooShort) {
  const Outcome outcome = run(train_tokenizer(corpus(), 1000));
  EXPECT_EQ(outcome.code, 0);
  EXPECT_THAT(outcome.err, HasSubstr("tokens only, 1000 were asked for\n"));
}

TEST_F(DataCommandTest, EncodePrintsIdsAndOffsets) {
  const std::string ids = encode(kTokenizer, "query : 1 + 1");
  std::string from_offsets;
  std::istringstream lines(encode(kTokenizer, "query : 1 + 1", "--offsets"));
  std::int64_t id = 0, begin = 0, end = 0, next = 0;
  while (lines >> id >> begin >> end) {
    from_offsets += fmt::format("{}{}", next == 0 ? "" : " ", id);
    EXPECT_EQ(begin, next);
    next = end;
  }
  EXPECT_EQ(next, 13);
  EXPECT_EQ(ids, from_offsets + "\n");
  EXPECT_EQ(encode(kTokenizer, ""), "\n");
}

TEST_F(DataCommandTest, PreparedTokensAreTheEncodedOnes) {
  const std::string text = "one and one\n is two";
  ASSERT_EQ(run(prepare(write("plain.txt", text), "--no-eos")).code, 0);
  const std::string ids = encode(kTokenizer, text);
  EXPECT_EQ(inspect()["tokens"], std::count(ids.begin(), ids.end(), ' ') + 1);
}

TEST_F(DataCommandTest, MissingFilesAreNamed) {
  const std::string missing = (folder_ / "missing").string();
  expect_refused(prepare(missing), 65, missing + ": cannot open");
  expect_refused(train_tokenizer(missing, 300), 65,
                 missing + ": No such file or directory");
  expect_refused("data inspect '" + missing + "'", 65,
                 missing + ": no dataset.json there");
  const std::string tokenizer = fmt::format("--tokenizer '{}'", missing);
  expect_refused("data encode " + tokenizer, 65, missing + ": no such file");
  expect_refused(fmt::format("data prepare --input '{}' --output '{}' {}",
                             corpus(), output().string(), tokenizer),
                 65, missing + ": no such file");
  EXPECT_FALSE(fs::exists(output()));
}

TEST_F(DataCommandTest, FilesOfAnotherKindAreRefused) {
  const std::string broken = write("broken.json", "{\"model\": ");
  expect_refused(fmt::format("data encode --tokenizer '{}'", broken), 65,
                 broken);
  expect_refused(prepare(write("empty.jsonl", "")), 65,
                 "empty.jsonl: the corpus is empty");
}

TEST_F(DataCommandTest, OutputThatCannotBeWrittenIsAStorageProblem) {
  const Outcome outcome =
      run(fmt::format("data tokenizer --input '{0}' --vocabulary 257 --output "
                      "'{0}/x.json'",
                      corpus()));
  EXPECT_EQ(outcome.code, 74);
  EXPECT_EQ(outcome.out, "");
  EXPECT_THAT(outcome.err, HasSubstr("\nerror: " + corpus() +
                                     ": cannot create folder: Not a "
                                     "directory\n"));
}

TEST_F(DataCommandTest, WrongCommandLinesAreUsageErrors) {
  expect_refused("data", 64, "catena data --help");
  expect_refused("data shuffle", 64, "catena data --help");
  expect_refused("data prepare", 64, "--input is required");
  expect_refused("data encode", 64, "--tokenizer is required");
  expect_refused("data inspect", 64, "folder is required");
  expect_refused(prepare(corpus(), "--shards 3"), 64, "--shards");
  expect_refused(prepare(corpus(), "--threads 5000"), 64, "--threads");
  expect_refused(prepare(corpus(), "--template '{query}'"), 64,
                 "row template \"{query}\": must be UTF-8 and hold {query}");
  expect_refused(train_tokenizer(corpus(), 10), 64,
                 "a vocabulary of 10 tokens: must be from 257");
}

}  // namespace
}  // namespace catena
