#include "training/data/dataset.h"

#include <unistd.h>

#include <chrono>
#include <set>

#include "tests/training/data/dataset_fixture.h"

namespace catena::data {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;

std::set<std::string> names_in(const fs::path& folder) {
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) {
    names.insert(entry.path().filename().string());
  }
  return names;
}

class PrepareTest : public DatasetFolderTest {
 protected:
  static std::string text_of(const Dataset& dataset, std::int64_t document) {
    return Tokenizer::load(dataset.tokenizer_path())
        .decode(dataset.tokens(document));
  }
};

TEST_F(PrepareTest, HoldsEveryRowWithItsEndOfText) {
  const auto made = options(
      "{\"query\": \"q\", \"response\": \"ab ab\"}\n{\"text\": \"t ab\"}\n");
  const PrepareSummary summary = prepare(made);
  const Dataset dataset(made.output);
  EXPECT_EQ(summary.documents, 2);
  EXPECT_EQ(dataset.documents(), 2);
  EXPECT_EQ(summary.tokens, dataset.tokens());
  EXPECT_EQ(text_of(dataset, 0), "query : q response : ab ab<|endoftext|>");
  EXPECT_EQ(text_of(dataset, 1), "t ab<|endoftext|>");
  EXPECT_EQ(dataset.manifest().end_of_text, 0);
  // "t", " ab", end of text: all of a text is trained on.
  EXPECT_EQ(dataset.response_start(1), 0);
  EXPECT_EQ(dataset.length(1), 3);
}

TEST_F(PrepareTest, CountsATokenToTheResponseIfAnyOfItsBytesAre) {
  // " ab" is one token; its space belongs to the template.
  const auto made = options("{\"query\": \"q\", \"response\": \"ab c\"}\n");
  prepare(made);
  const Dataset dataset(made.output);
  const Tokenizer tokenizer = Tokenizer::load(made.output);
  const auto tokens = dataset.tokens(0);
  const auto start = static_cast<std::size_t>(dataset.response_start(0));
  EXPECT_EQ(tokenizer.decode(std::span(tokens).subspan(start)),
            " ab c<|endoftext|>");
  EXPECT_EQ(dataset.manifest().response_tokens, 4);
}

TEST_F(PrepareTest, LeavesTheEndOfTextOutIfAsked) {
  auto made = options("{\"query\": \"q\", \"response\": \"\"}\n");
  made.append_end_of_text = false;
  prepare(made);
  const Dataset dataset(made.output);
  EXPECT_EQ(text_of(dataset, 0), "query : q response : ");
  EXPECT_EQ(dataset.response_start(0), dataset.length(0));
  EXPECT_FALSE(dataset.manifest().append_end_of_text);
}

TEST_F(PrepareTest, DoesNotDependOnTheNumberOfThreads) {
  auto one = options(mixed_rows(9000), "one");
  one.shard_tokens = 50'000;
  auto three = one;
  three.output = folder() / "three";
  three.threads = 3;
  const PrepareSummary summary = prepare(one);
  prepare(three);
  EXPECT_GT(summary.shards, 3);
  for (const auto& entry : fs::directory_iterator(one.output)) {
    const auto name = entry.path().filename();
    EXPECT_EQ(catena::read_file(entry.path()),
              catena::read_file(three.output / name))
        << name;
  }
}

TEST_F(PrepareTest, FindsDocumentsInAllShards) {
  auto made = options(mixed_rows(300));
  made.shard_tokens = 1;
  EXPECT_EQ(prepare(made).shards, 300);
  const Dataset many(made.output);
  made.shard_tokens = 1 << 20;
  made.output = folder() / "single";
  EXPECT_EQ(prepare(made).shards, 1);
  const Dataset single(made.output);
  for (std::int64_t i = 0; i < 300; ++i) {
    EXPECT_EQ(many.tokens(i), single.tokens(i));
    EXPECT_EQ(many.response_start(i), single.response_start(i));
  }
}

TEST_F(PrepareTest, UsesFourBytesForALargeVocabulary) {
  auto made = options("{\"text\": \"ab<big>\"}\n");
  auto tokenizer = small_tokenizer();
  tokenizer["added_tokens"].push_back(
      {{"id", 70'000}, {"content", "<big>"}, {"special", false}});
  write("tokenizer.json", json_text(tokenizer));
  prepare(made);
  const Dataset dataset(made.output);
  EXPECT_THAT(dataset.tokens(0), ElementsAre(98, 99, 70'000, 0));
}

TEST_F(PrepareTest, StopsAtABadRowOrCountsIt) {
  auto made =
      options("{\"text\": \"a\"}\n\n{\"text\": 1}\n{\"text\": \"b\"}\n");
  EXPECT_EQ(
      error_of([&] { prepare(made); }),
      made.inputs[0].string() + ":3:1: \"text\" is number, expected a string");
  EXPECT_FALSE(fs::exists(made.output / kDatasetFile));
  made.skip_bad_rows = true;
  const PrepareSummary summary = prepare(made);
  EXPECT_EQ(summary.bad_rows.count, 1);
  EXPECT_THAT(summary.bad_rows.messages[0], HasSubstr(":3:1:"));
  EXPECT_EQ(Dataset(made.output).manifest().bad_rows, 1);
}

TEST_F(PrepareTest, NamesTheRowThatCannotBeEncoded) {
  auto made = options("{}\n{\"text\": \"a\"}\n\n{\"text\": \"az\"}\n");
  made.skip_bad_rows = true;
  auto tokenizer = small_tokenizer();
  tokenizer["model"]["vocab"].erase("z");
  write("tokenizer.json", json_text(tokenizer));
  const std::string reason =
      ": the tokenizer has no token for byte 0x7A; its vocabulary is "
      "incomplete";
  EXPECT_EQ(error_of([&] { prepare(made); }),
            made.inputs[0].string() + ":4" + reason);
  made.inputs = {write("text.txt", "a\nb\f\nz")};
  EXPECT_EQ(error_of([&] { prepare(made); }),
            made.inputs[0].string() + ":2" + reason);
}

TEST_F(PrepareTest, RefusesAnEmptyCorpus) {
  auto made = options("\n  \n");
  EXPECT_EQ(error_of([&] { prepare(made); }),
            made.inputs[0].string() + ": the corpus is empty (0 bad rows)");
  write("rows.jsonl", "{}\n");
  made.skip_bad_rows = true;
  EXPECT_EQ(error_of([&] { prepare(made); }),
            made.inputs[0].string() + ": the corpus is empty (1 bad rows)");
}

TEST_F(PrepareTest, RefusesToOverwriteADataset) {
  const auto made = options("{\"text\": \"a\"}\n");
  prepare(made);
  EXPECT_EQ(error_of([&] { prepare(made); }, ErrorKind::kUsage),
            made.output.string() +
                ": already holds a data set; choose another folder or remove "
                "it");
}

TEST_F(PrepareTest, KeepsWhatIsForeign) {
  const auto made = options("{\"text\": \"a\"}\n");
  const std::vector<std::string> names = {"tokens-00000.bin", "index.bin",
                                          "tokenizer.json",
                                          "tokenizer_config.json", "notes"};
  for (const std::string& name : names) {
    write("out/" + name, "mine");
    EXPECT_EQ(error_of([&] { prepare(made); }, ErrorKind::kUsage),
              made.output.string() +
                  ": is not empty, and no unfinished data set either (no "
                  "dataset.unfinished there); choose another folder or empty "
                  "it");
    EXPECT_EQ(names_in(made.output), std::set{name});
    EXPECT_EQ(catena::read_file(made.output / name), "mine");
    fs::remove(made.output / name);
  }
  prepare(made);
  EXPECT_EQ(Dataset(made.output).documents(), 1);
}

TEST_F(PrepareTest, BeginsAgainWhereItDidNotFinish) {
  auto made = options("{\"text\": \"a\"}\n{\"text\": \"b\"}\n{}\n");
  made.shard_tokens = 1;
  made.skip_bad_rows = true;
  made.progress = [](std::int64_t, std::int64_t) {
    fail(ErrorKind::kTimeout, "killed");
  };
  error_of([&] { prepare(made); }, ErrorKind::kTimeout);
  EXPECT_EQ(names_in(made.output),
            (std::set<std::string>{"dataset.unfinished", "tokens-00000.bin",
                                   "tokens-00001.bin"}));
  made.progress = nullptr;
  made.shard_tokens = 1000;
  prepare(made);
  EXPECT_EQ(names_in(made.output),
            (std::set<std::string>{"dataset.json", "index.bin",
                                   "tokenizer.json", "tokens-00000.bin"}));
}

TEST_F(PrepareTest, NeedsAnEndOfTextTokenToAppend) {
  const auto made = options("{\"text\": \"a\"}\n");
  auto tokenizer = small_tokenizer();
  tokenizer["added_tokens"] = nlohmann::json::array();
  write("tokenizer.json", json_text(tokenizer));
  EXPECT_THAT(error_of([&] { prepare(made); }, ErrorKind::kUsage),
              HasSubstr("names no end-of-text token to put behind each "
                        "document; leave it out (data.end_of_text"));
}

TEST_F(PrepareTest, ReportsProgressUpToTheEnd) {
  auto made = options(mixed_rows(5000));
  std::vector<std::int64_t> done;
  made.progress = [&](std::int64_t now, std::int64_t total) {
    EXPECT_EQ(total, static_cast<std::int64_t>(fs::file_size(made.inputs[0])));
    done.push_back(now);
  };
  prepare(made);
  EXPECT_TRUE(std::is_sorted(done.begin(), done.end()));
  EXPECT_GT(done.size(), 1U);
  EXPECT_EQ(done.back(),
            static_cast<std::int64_t>(fs::file_size(made.inputs[0])));
}

class OpenOrPrepareTest : public DatasetFolderTest {
 protected:
  [[nodiscard]] fs::path cache() const { return folder() / "cache"; }
};

TEST_F(OpenOrPrepareTest, PreparesTextOnce) {
  auto made = options(mixed_rows(50));
  int reports = 0;
  made.progress = [&](std::int64_t, std::int64_t) { ++reports; };
  const Dataset first = open_or_prepare(made, cache());
  EXPECT_EQ(reports, 1);
  const Dataset again = open_or_prepare(made, cache());
  EXPECT_EQ(reports, 1);
  EXPECT_EQ(first.folder(), again.folder());
  EXPECT_EQ(first.hash(), again.hash());
  made.append_end_of_text = false;
  EXPECT_NE(open_or_prepare(made, cache()).folder(), first.folder());
  write("rows.jsonl", mixed_rows(51));
  EXPECT_EQ(open_or_prepare(made, cache()).documents(), 51);
}

TEST_F(OpenOrPrepareTest, TellsApartHowTheSameBytesAreRead) {
  auto made = options("{\"text\": \"a\"}\n{\"text\": \"b\"}\n");
  const auto folder_of = [&](const char* name, int documents) {
    made.inputs = {write(name, catena::read_file(folder() / "rows.jsonl"))};
    const Dataset dataset = open_or_prepare(made, cache());
    EXPECT_EQ(dataset.documents(), documents) << name;
    return dataset.folder();
  };
  const fs::path json = folder_of("rows.jsonl", 2);
  const fs::path text = folder_of("rows.txt", 1);
  EXPECT_EQ(folder_of("renamed.ndjson", 2), json);
  EXPECT_EQ(folder_of("renamed.md", 1), text);
}

TEST_F(OpenOrPrepareTest, TakesWhatAnotherProcessPutThereFirst) {
  auto made = options(mixed_rows(50));
  const auto same = made;
  int documents = 0;
  made.progress = [&](std::int64_t, std::int64_t) {
    documents += static_cast<int>(open_or_prepare(same, cache()).documents());
  };
  const Dataset dataset = open_or_prepare(made, cache());
  EXPECT_EQ(documents, 50);
  EXPECT_EQ(dataset.documents(), 50);
  EXPECT_THAT(names_in(cache()), ElementsAre(dataset.folder().filename()));
}

TEST_F(OpenOrPrepareTest, SaysThatItCannotBePutInItsPlace) {
  const auto made = options(mixed_rows(50));
  const fs::path place = open_or_prepare(made, cache()).folder();
  fs::remove(place / kDatasetFile);
  EXPECT_THAT(
      error_of([&] { (void)open_or_prepare(made, cache()); }, ErrorKind::kIo),
      EndsWith(": cannot be renamed to " + place.string() +
               ": Directory not empty"));
  EXPECT_THAT(names_in(cache()), ElementsAre(place.filename()));
}

TEST_F(OpenOrPrepareTest, RemovesOnlyWhatWasAbandonedLongAgo) {
  const auto made = options(mixed_rows(50));
  const fs::path place = open_or_prepare(made, cache()).folder();
  fs::remove_all(place);
  const std::string key = place.filename().string();
  const std::string own = fmt::format("{}.partial-{}", key, ::getpid());
  const auto now = fs::file_time_type::clock::now();
  const auto leave = [&](const std::string& name, int folder_hours,
                         int file_hours) {
    const fs::path file = write("cache/" + name + "/tokens-00000.bin", "old");
    fs::last_write_time(file, now - std::chrono::hours(file_hours));
    fs::last_write_time(cache() / name, now - std::chrono::hours(folder_hours));
  };
  leave(key + ".partial-1", 25, 25);
  leave(key + ".partial-2-0badcafe", 25, 25);
  leave(key + ".partial-3", 25, 23);
  leave(key + ".partial-4", 23, 25);
  leave("0123456789abcdef.partial-1", 25, 25);
  leave(own, 0, 0);
  EXPECT_EQ(open_or_prepare(made, cache()).folder(), place);
  EXPECT_EQ(names_in(cache()),
            (std::set<std::string>{key, key + ".partial-3", key + ".partial-4",
                                   "0123456789abcdef.partial-1", own}));
  EXPECT_EQ(catena::read_file(cache() / own / "tokens-00000.bin"), "old");
}

TEST_F(OpenOrPrepareTest, OpensAPreparedFolder) {
  auto made = options(mixed_rows(50));
  prepare(made);
  made.inputs = {made.output};
  EXPECT_EQ(open_or_prepare(made, cache()).folder(), made.output);
  EXPECT_FALSE(fs::exists(cache()));
  write("tokenizer.json", json_text(small_tokenizer({{"z", "z"}})));
  EXPECT_THAT(error_of([&] { (void)open_or_prepare(made, cache()); }),
              HasSubstr("was prepared with another tokenizer than"));
  made.tokenizer.clear();
  EXPECT_EQ(open_or_prepare(made, cache()).documents(), 50);
}

}  // namespace
}  // namespace catena::data
