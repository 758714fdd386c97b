#include <cstring>

#include "tests/training/data/dataset_fixture.h"

/// A data set that is not whole is refused, naming the file and what to do.

namespace catena::data {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;

constexpr const char* kAgain =
    "the data set is damaged, prepare it again (catena data prepare)";

class DatasetDamageTest : public DatasetFolderTest {
 protected:
  DatasetDamageTest() {
    const auto made = options(mixed_rows(40));
    prepare(made);
    path_ = made.output;
  }

  [[nodiscard]] std::string content(const std::string& name) const {
    return catena::read_file(path_ / name);
  }
  /// Changes a file and, unless `secretly`, tells dataset.json about it.
  void replace(const std::string& name, const std::string& bytes,
               bool secretly) const {
    write_file_atomically(path_ / name, bytes);
    if (secretly) return;
    auto manifest = parse_manifest(content(kDatasetFile), "m");
    const auto file = write_dataset_file(path_, name, bytes);
    (name == kIndexFile ? manifest.index : manifest.shards[0]) = file;
    write_dataset_file(path_, kDatasetFile, write_manifest(manifest));
  }
  /// Puts a 64-bit word into the index.
  void set_index_word(std::size_t offset, std::uint64_t value) const {
    std::string bytes = content(kIndexFile);
    std::memcpy(bytes.data() + offset, &value, sizeof value);
    replace(kIndexFile, bytes, false);
  }
  [[nodiscard]] std::string open_error(
      Verify verify = Verify::kStructure) const {
    return error_of([&] { Dataset dataset(path_, verify); });
  }
  [[nodiscard]] std::string name_of(const std::string& file) const {
    return (path_ / file).string();
  }

  fs::path path_;
};

TEST_F(DatasetDamageTest, WithoutManifestItIsNoDataset) {
  fs::remove(path_ / kDatasetFile);
  EXPECT_EQ(open_error(),
            path_.string() +
                ": no dataset.json there, so it is not a finished "
                "data set; make one with catena data prepare");
}

TEST_F(DatasetDamageTest, NoticesEveryTruncatedFile) {
  for (const char* name : {"tokens-00000.bin", "index.bin", "tokenizer.json"}) {
    const std::string whole = content(name);
    replace(name, whole.substr(0, whole.size() - 1), true);
    EXPECT_EQ(
        open_error(),
        fmt::format("{}: {} bytes, dataset.json says {}; {}", name_of(name),
                    whole.size() - 1, whole.size(), kAgain));
    replace(name, whole, true);
  }
  fs::remove(path_ / "tokens-00000.bin");
  EXPECT_THAT(open_error(), HasSubstr(name_of("tokens-00000.bin")));
}

TEST_F(DatasetDamageTest, NoticesEveryFlippedByte) {
  for (const char* name : {"tokens-00000.bin", "index.bin", "tokenizer.json"}) {
    const std::string whole = content(name);
    for (const std::size_t at : {std::size_t{40}, whole.size() - 1}) {
      std::string bytes = whole;
      bytes[at] = static_cast<char>(bytes[at] ^ 1);
      replace(name, bytes, true);
      EXPECT_THAT(open_error(Verify::kContent), HasSubstr(name_of(name)));
    }
    replace(name, whole, true);
  }
  EXPECT_EQ(Dataset(path_).documents(), 40);
}

TEST_F(DatasetDamageTest, NoticesAnotherVersionOrKind) {
  for (const char* name : {"tokens-00000.bin", "index.bin"}) {
    const std::string whole = content(name);
    std::string other = whole;
    other[8] = 2;
    replace(name, other, false);
    EXPECT_EQ(open_error(),
              name_of(name) +
                  ": format version 2, this program reads version "
                  "1; prepare the data set again with this "
                  "program");
    other[0] = 'X';
    replace(name, other, false);
    EXPECT_EQ(open_error(), name_of(name) +
                                ": does not begin as such a file "
                                "does; " +
                                kAgain);
    replace(name, "short", false);
    EXPECT_EQ(open_error(), name_of(name) +
                                ": 5 bytes, shorter than its "
                                "header of 32; " +
                                kAgain);
    replace(name, whole, false);
  }
  auto manifest = json_of(content(kDatasetFile));
  manifest["version"] = 7;
  replace(kDatasetFile, json_text(manifest), true);
  EXPECT_EQ(open_error(), name_of(kDatasetFile) +
                              ": version is 7, this program reads "
                              "version 1; prepare the data set again "
                              "with this program");
}

TEST_F(DatasetDamageTest, NoticesOffsetsOutOfOrder) {
  set_index_word(32 + 8 * 3, 1);
  EXPECT_EQ(open_error(), fmt::format("{}: document 2 ends before it begins; "
                                      "{}",
                                      name_of(kIndexFile), kAgain));
}

TEST_F(DatasetDamageTest, NoticesHugeOffsets) {
  set_index_word(32 + 8 * 3, ~std::uint64_t{0});
  EXPECT_THAT(open_error(), HasSubstr("document 2 ends before it begins"));
}

TEST_F(DatasetDamageTest, NoticesAFirstOffsetThatIsNotZero) {
  set_index_word(32, 1);
  EXPECT_THAT(open_error(), HasSubstr("begins at token 1, not 0"));
}

TEST_F(DatasetDamageTest, NoticesAResponseBehindItsDocument) {
  set_index_word(32 + 8 * 41, 1'000'000);
  EXPECT_THAT(open_error(), AllOf(HasSubstr("document 0 of"),
                                  HasSubstr("has its response at 1000000"),
                                  EndsWith(kAgain)));
}

TEST_F(DatasetDamageTest, NoticesAWrongNumberOfDocuments) {
  for (const std::uint64_t count :
       {std::uint64_t{39}, std::uint64_t{41}, ~std::uint64_t{0}}) {
    set_index_word(16, count);
    EXPECT_THAT(open_error(), HasSubstr("bytes do not hold"));
  }
}

TEST_F(DatasetDamageTest, NoticesATokenOutsideTheVocabulary) {
  std::string bytes = content("tokens-00000.bin");
  bytes[32] = static_cast<char>(0xFF);
  bytes[33] = static_cast<char>(0xFF);
  replace("tokens-00000.bin", bytes, false);
  const Dataset dataset(path_);
  EXPECT_EQ(error_of([&] { (void)dataset.tokens(0); }),
            path_.string() +
                ": document 0 holds token id 65535, outside the "
                "vocabulary of 259; " +
                kAgain);
}

TEST_F(DatasetDamageTest, RefusesNamesThatLeaveTheFolder) {
  auto manifest = json_of(content(kDatasetFile));
  manifest["index"]["name"] = "../index.bin";
  replace(kDatasetFile, json_text(manifest), true);
  EXPECT_EQ(open_error(), name_of(kDatasetFile) +
                              ": index.name is \"../index.bin\", expected a "
                              "file of the folder");
}

}  // namespace
}  // namespace catena::data
