// Checkpoints that are not what was written are refused by name.

#include <fstream>

#include "tests/training/checkpoint_fixture.h"

namespace catena {
namespace {

using testing::HasSubstr;
using testing::Not;

class CheckpointDamageTest : public CheckpointFixture {
 protected:
  CheckpointDamageTest() { write(1); }

  /// The message that verify_checkpoint refuses step 1 with; "" if it does
  /// not.
  std::string refusal() {
    try {
      (void)verify_checkpoint(step_folder(1));
      return "";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kData);
      return error.what();
    }
  }
  void overwrite(const fs::path& file, const std::string& bytes) {
    std::ofstream(file, std::ios::binary | std::ios::trunc) << bytes;
  }
  static std::vector<std::string> files() {
    return {kModelFile, kIndexFile, kOptimizerFile, kStateFile};
  }
};

TEST_F(CheckpointDamageTest, IsWholeAtFirst) { EXPECT_EQ(refusal(), ""); }

TEST_F(CheckpointDamageTest, NoticesEveryFlippedBitOfTheManifest) {
  const fs::path path = step_folder(1) / kManifestFile;
  const std::string good = read_file(path);
  for (std::size_t i = 0; i < good.size(); ++i) {
    for (const int bit : {0, 3, 6}) {
      std::string bad = good;
      bad[i] = static_cast<char>(bad[i] ^ (1 << bit));
      try {
        // Where it is read at all, it must say the same.
        EXPECT_EQ(manifest_text(parse_manifest(bad, "m")), good) << i;
      } catch (const Error& error) {
        EXPECT_EQ(error.kind(), ErrorKind::kData) << i;
      }
    }
  }
}

TEST_F(CheckpointDamageTest, NoticesFlippedBitsOfEveryFile) {
  for (const std::string& name : files()) {
    const fs::path path = step_folder(1) / name;
    const std::string good = read_file(path);
    for (std::size_t i = 0; i < good.size(); i += 1 + good.size() / 40) {
      std::string bad = good;
      bad[i] = static_cast<char>(bad[i] ^ 16);
      overwrite(path, bad);
      EXPECT_THAT(refusal(), HasSubstr(name)) << i;
    }
    overwrite(path, good);
  }
  EXPECT_EQ(refusal(), "");
}

TEST_F(CheckpointDamageTest, NoticesFilesCutShortGrownOrGone) {
  for (const std::string& name : files()) {
    const fs::path path = step_folder(1) / name;
    const std::string good = read_file(path);
    for (const std::string& bad :
         {good.substr(0, good.size() - 1), std::string(), good + "x"}) {
      overwrite(path, bad);
      EXPECT_THAT(refusal(), HasSubstr(name));
    }
    fs::remove(path);
    EXPECT_THAT(refusal(), HasSubstr(name));
    overwrite(path, good);
  }
  fs::remove(step_folder(1) / kManifestFile);
  EXPECT_THAT(refusal(), HasSubstr("is no checkpoint"));
}

TEST_F(CheckpointDamageTest, NoticesFilesOfAnotherStep) {
  fill(2);
  write(2);
  for (const std::string& name : files()) {
    const fs::path path = step_folder(1) / name;
    const std::string good = read_file(path);
    fs::copy_file(step_folder(2) / name, path,
                  fs::copy_options::overwrite_existing);
    const bool same = read_file(path) == good;  // the index is
    EXPECT_EQ(refusal().empty(), same) << name;
    overwrite(path, good);
  }
}

TEST_F(CheckpointDamageTest, NoticesARenamedFolder) {
  fs::rename(step_folder(1), step_folder(9));
  try {
    (void)newest_checkpoint(checkpoints_);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("holds step 1"));
  }
}

TEST_F(CheckpointDamageTest, OffersTheNewestValidOne) {
  write(2);
  write(3);
  write(4);
  overwrite(step_folder(4) / kStateFile, "{}");
  fs::remove(step_folder(3) / kModelFile);
  try {
    (void)newest_checkpoint(checkpoints_);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kData);
    EXPECT_THAT(error.what(), HasSubstr("step-000004/state.json: has 2 bytes"));
    EXPECT_THAT(error.what(),
                HasSubstr("--resume-from " + step_folder(2).string()));
  }
}

TEST_F(CheckpointDamageTest, OffersWeightsToWhoAskedForThem) {
  write(2);
  write(3);
  overwrite(step_folder(3) / kStateFile, "{}");
  for (const fs::path& given : {folder_, step_folder(3)}) {
    try {
      (void)find_weights(given);
      FAIL() << "no error";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kData);
      EXPECT_THAT(error.what(),
                  HasSubstr("newest valid checkpoint is " +
                            step_folder(2).string() + "; to take its"));
      EXPECT_THAT(error.what(), Not(HasSubstr("--resume-from")));
    }
  }
}

TEST_F(CheckpointDamageTest, FoldersWithOtherNamesAreNone) {
  for (const char* name : {".unfinished-step-000007", "step-7", "step-",
                           "step-00000x", "step-000007.old", "latest"}) {
    fs::create_directories(checkpoints_ / name);
  }
  ASSERT_EQ(steps().size(), 1U);
  EXPECT_EQ(newest_checkpoint(checkpoints_)->step, 1);
}

TEST_F(CheckpointDamageTest, RefusesForeignManifests) {
  const auto refuse = [](const std::string& text, const std::string& why) {
    try {
      (void)parse_manifest(text, "MANIFEST.json");
      FAIL() << "no error: " << text;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kData);
      EXPECT_THAT(error.what(), HasSubstr(why));
    }
  };
  refuse("", "MANIFEST.json");
  refuse("[]", "MANIFEST.json");
  refuse(R"({"format": "other"})", "format");
  refuse(R"({"format": "catena-checkpoint", "version": 2})",
         "this program reads version 1");
  refuse(R"({"format": "catena-checkpoint", "version": 1, "step": -1})",
         "step");
  for (const char* name :
       {"../x", "/etc/passwd", "", ".", "a/b", "MANIFEST.json"}) {
    refuse(fmt::format(R"({{"format": "catena-checkpoint", "version": 1,
      "step": 1, "files": [{{"name": "{}", "bytes": 1,
      "xxh3": "0123456789abcdef"}}], "xxh3": "0123456789abcdef"}})",
                       name),
           "files[0].name");
  }
}

TEST_F(CheckpointDamageTest, RefusesStatesOfAnotherVersion) {
  std::string text = state_text({});
  const std::string version = "\"version\": 1";
  ASSERT_THAT(text, HasSubstr(version));
  text.replace(text.find(version), version.size(), "\"version\": 2");
  try {
    (void)parse_state(text, "state.json");
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kData);
    EXPECT_THAT(error.what(), HasSubstr("is not 1: use the program that"));
  }
}

TEST_F(CheckpointDamageTest, RefusesAnotherModel) {
  ModelConfig other = config();
  other.hidden = 32;
  Model wider(*backend_, other, {});
  const Optimizer moments(wider.parameters(), {});
  try {
    restore(step_folder(1), wider, moments);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kData);
    EXPECT_THAT(error.what(), HasSubstr("model.embed_tokens.weight: has shape "
                                        "[40, 16], the model's is [40, 32]"));
  }
}

TEST_F(CheckpointDamageTest, NamesEveryKeyThatMakesItAnotherRun) {
  TrainingState before, now;
  before.config = {{"model.hidden", "16"},
                   {"train.seed", "0"},
                   {"train.steps", "10"},
                   {"gone.key", "1"}};
  now.config = {{"model.hidden", "32"},
                {"train.seed", "1"},
                {"train.steps", "20"},
                {"new.key", "1"}};
  before.tokenizer_hash = "aa";
  now.tokenizer_hash = "bb";
  before.data_hash = "cc";
  now.data_hash = "dd";
  try {
    (void)check_resumable(before, now, "step-000001");
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kData);
    for (const char* part :
         {"model.hidden was 16, is 32", "train.seed was 0, is 1",
          "data.tokenizer", "data.train", "--init-from"}) {
      EXPECT_THAT(error.what(), HasSubstr(part));
    }
    EXPECT_THAT(error.what(), Not(HasSubstr("train.steps")));
  }
  now.tokenizer_hash = "aa";
  now.data_hash = "cc";
  now.config[0].value = "16";
  now.config[1].value = "0";
  const auto free = check_resumable(before, now, "step-000001");
  ASSERT_EQ(free.size(), 1U);
  EXPECT_EQ(free[0].key, "train.steps");
  EXPECT_EQ(free[0].before, "10");
  EXPECT_EQ(free[0].now, "20");
}

}  // namespace
}  // namespace catena
