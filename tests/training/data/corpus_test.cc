#include "training/data/corpus.h"

#include <zstd.h>

#include "tests/training/data/data_fixture.h"

namespace catena::data {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string compressed(const std::string& text) {
  std::string out(ZSTD_compressBound(text.size()), '\0');
  out.resize(
      ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 3));
  return out;
}

RawRow json_row(const std::string& bytes) {
  return {bytes, "t.jsonl", 17, 1, true};
}

std::string row_error(const std::string& bytes) {
  return error_of([&] { (void)parse_row(json_row(bytes), RowTemplate()); });
}

TEST(RowTest, JoinsQueryAndResponse) {
  const Document document = parse_row(
      json_row(R"({"query": " 1 + 1? ", "response": "\n2\u00a0", "x": 3})"),
      RowTemplate());
  EXPECT_EQ(document.text, "query : 1 + 1? response : 2");
  EXPECT_EQ(document.text.substr(document.response_begin), "2");
}

TEST(RowTest, TakesTextAsItStands) {
  const Document document =
      parse_row(json_row(R"({"text": " a\n"})"), RowTemplate());
  EXPECT_EQ(document.text, " a\n");
  EXPECT_EQ(document.response_begin, 0U);
}

TEST(RowTest, NamesPlaceAndReason) {
  EXPECT_EQ(row_error(R"({"text": 3})"),
            "t.jsonl:17:1: \"text\" is number, expected a string");
  EXPECT_EQ(row_error(R"({"query": "a"})"),
            "t.jsonl:17:1: the row has \"query\" but no \"response\"");
  EXPECT_EQ(row_error(R"({"response": "a"})"),
            "t.jsonl:17:1: the row has \"response\" but no \"query\"");
  EXPECT_EQ(row_error("{}"),
            "t.jsonl:17:1: the row has neither \"query\" and \"response\" nor "
            "\"text\"");
  EXPECT_EQ(row_error("[1]"),
            "t.jsonl:17:1: the row is a JSON array, expected an object such as "
            "{\"query\": \"...\", \"response\": \"...\"}");
  EXPECT_EQ(row_error("{\"text\": \"a\xC3\"}"),
            "t.jsonl:17:12: byte 0xC3 is not valid UTF-8");
  EXPECT_THAT(row_error(R"({"text" "a"})"),
              HasSubstr("t.jsonl:17:11: not valid JSON: syntax error"));
  EXPECT_THAT(row_error(R"({"text": "\ud800"})"), HasSubstr("t.jsonl:17:"));
}

TEST(RowTest, SkipsAndCountsBadRowsIfAllowed) {
  BadRows bad;
  const std::vector<RawRow> rows{json_row("{"), json_row(R"({"text": "ok"})"),
                                 json_row("{}")};
  EXPECT_EQ(parse_rows(rows, RowTemplate(), &bad).size(), 1U);
  EXPECT_EQ(bad.count, 2);
  EXPECT_EQ(bad.messages.size(), 2U);
  EXPECT_THROW((void)parse_rows(rows, RowTemplate(), nullptr), Error);
}

TEST(RowTemplateTest, PlacesBothFields) {
  const RowTemplate made("Q: {query}\nA: {response}\n");
  const Document document = made.join("a", "b");
  EXPECT_EQ(document.text, "Q: a\nA: b\n");
  EXPECT_EQ(document.response_begin, 8U);
  EXPECT_EQ(made.prompt("a"), "Q: a\nA: ");
  EXPECT_EQ(made.pattern(), "Q: {query}\nA: {response}\n");
}

TEST(RowTemplateTest, NeedsBothFieldsOnceInOrder) {
  for (const char* bad :
       {"", "{query}", "{response} {query}", "{query} {query} {response}",
        "{query}{response\xFF}"}) {
    EXPECT_THAT(error_of([&] { RowTemplate made(bad); }, ErrorKind::kUsage),
                HasSubstr("must be UTF-8 and hold {query} and, behind it, "
                          "{response}, once each"));
  }
}

class CorpusTest : public FolderTest {
 protected:
  static std::vector<std::string> rows(std::vector<std::filesystem::path> in) {
    CorpusReader reader(std::move(in));
    std::vector<std::string> found;
    RawRow row;
    while (reader.next(row)) {
      const auto name = std::filesystem::path(row.file).filename().string();
      found.push_back(
          fmt::format("{}:{}:{} {}", name, row.line, row.column, row.bytes));
    }
    EXPECT_EQ(reader.bytes_done(), reader.bytes_total());
    return found;
  }
};

TEST_F(CorpusTest, ReadsLinesOfSeveralFiles) {
  const auto a = write("a.jsonl", "\xEF\xBB\xBF{1}\n\n  \n{2}\r\n{3}");
  const auto b = write("b.jsonl.zst", compressed("{4}\n") + compressed("{5}"));
  EXPECT_THAT(
      rows({a, b}),
      ElementsAre("a.jsonl:1:1 {1}", "a.jsonl:4:1 {2}\r", "a.jsonl:5:1 {3}",
                  "b.jsonl.zst:1:1 {4}", "b.jsonl.zst:2:1 {5}"));
}

TEST_F(CorpusTest, CutsTextAtSeparators) {
  const auto path = write("a.txt", "one\ntwo\fthree<|endoftext|>\n\f four\n");
  EXPECT_THAT(rows({path}), ElementsAre("a.txt:1:1 one\ntwo", "a.txt:2:5 three",
                                        "a.txt:3:2  four\n"));
}

TEST_F(CorpusTest, FindsSeparatorsAcrossReads) {
  // The marker lies on every offset around the end of the first read.
  for (std::size_t shift = 0; shift < 16; ++shift) {
    const std::string first((std::size_t{1} << 18) - shift, 'x');
    const auto path = write("a.txt", first + "<|endoftext|>second");
    CorpusReader reader({path});
    RawRow row;
    ASSERT_TRUE(reader.next(row));
    EXPECT_EQ(row.bytes.size(), first.size());
    ASSERT_TRUE(reader.next(row));
    EXPECT_EQ(row.bytes, "second");
    EXPECT_FALSE(reader.next(row));
  }
}

TEST_F(CorpusTest, ReadsLinesLongerThanARead) {
  const std::string line(1'000'000, 'y');
  const auto path = write("a.jsonl", line + "\nz\n" + line);
  CorpusReader reader({path});
  RawRow row;
  std::vector<std::size_t> sizes;
  while (reader.next(row)) sizes.push_back(row.bytes.size());
  EXPECT_THAT(sizes, ElementsAre(1'000'000U, 1U, 1'000'000U));
}

TEST_F(CorpusTest, RefusesFilesItCannotRead) {
  const std::string missing = (folder() / "none.jsonl").string();
  EXPECT_EQ(error_of([&] { CorpusReader reader({missing}); }),
            missing + ": No such file or directory");
  EXPECT_EQ(error_of([&] { CorpusReader reader({folder()}); }),
            folder().string() + ": is a folder; name the files in it");
  const auto other = write("a.bin", "x");
  EXPECT_EQ(error_of([&] { CorpusReader reader({other}); }),
            other.string() +
                ": cannot tell what it holds; name it .jsonl (one JSON object "
                "a line) or .txt, with .zst behind that if it is compressed");
}

TEST_F(CorpusTest, NoticesDamagedCompression) {
  const std::string whole = compressed(std::string(100'000, 'a') + "end");
  const auto cut = write("a.txt.zst", whole.substr(0, whole.size() - 5));
  EXPECT_EQ(error_of([&] { rows({cut}); }),
            cut.string() +
                ": the zstd data end early; the file is truncated, "
                "copy it again");
  std::string flipped = whole;
  flipped[5] = static_cast<char>(flipped[5] ^ 0xFF);
  const auto bad = write("b.txt.zst", flipped);
  EXPECT_THAT(error_of([&] { rows({bad}); }),
              HasSubstr(bad.string() + ": damaged zstd data near byte"));
}

}  // namespace
}  // namespace catena::data
