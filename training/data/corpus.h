#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "training/data/byte_stream.h"

namespace catena::data {

/// One text to train on.
struct Document {
  std::string text;
  /// Byte offset at which the response begins; 0 where there is no query.
  std::size_t response_begin = 0;
  std::size_t row = 0;  ///< which of those given to parse_rows
};

/// How a query and its response become one text.
class RowTemplate {
 public:
  static constexpr std::string_view kDefault =
      "query : {query} response : {response}";

  /// `pattern` holds {query} and, behind it, {response}, once each.
  /// Throws: Error(kUsage).
  explicit RowTemplate(std::string_view pattern = kDefault);

  /// Both fields are stripped of white space at their ends.
  [[nodiscard]] Document join(std::string_view query,
                              std::string_view response) const;
  /// The text up to the response: what a model is asked with.
  [[nodiscard]] std::string prompt(std::string_view query) const;
  [[nodiscard]] std::string pattern() const;

 private:
  std::string before_, between_, after_;
};

/// A row as it stands in a file: a line of JSON, or a text document.
struct RawRow {
  std::string bytes;
  std::string file;
  std::int64_t line = 1;    ///< of the first byte, from 1
  std::int64_t column = 1;  ///< of the first byte, from 1
  bool json = false;
};

/// Reads {"query": string, "response": string} or {"text": string}, further
/// members ignored, or takes a text document as it is.
/// Throws: Error(kData), "FILE:LINE:COLUMN: ...", for malformed JSON, missing
/// or wrong fields and invalid UTF-8.
[[nodiscard]] Document parse_row(const RawRow& row,
                                 const RowTemplate& row_template);

/// Rows that could not be used, when that is allowed.
struct BadRows {
  std::int64_t count = 0;
  std::vector<std::string> messages;  ///< of the first few

  void add(std::string message);
  void add(const BadRows& later);
};

/// Parses rows in order. With `bad`, a row that cannot be used is noted there
/// and left out.
/// Throws: as parse_row, without `bad`.
[[nodiscard]] std::vector<Document> parse_rows(const std::vector<RawRow>& rows,
                                               const RowTemplate& row_template,
                                               BadRows* bad);

/// How a file is read, by its name: a row of JSON a line, or text.
/// Throws: Error(kData) if its name ends in neither way; see CorpusReader.
[[nodiscard]] bool holds_json(const std::filesystem::path& path);

/// All rows of some files, in order.
///
///   *.jsonl, *.ndjson  one JSON object a line; blank lines are passed over
///   *.txt, *.text, *.md  one document, or several with a form feed or
///                        <|endoftext|> between them
///   *.zst              either of these, compressed
/// Thread rule: one thread.
class CorpusReader {
 public:
  /// Throws: Error(kData) if a file is missing or its name ends otherwise.
  explicit CorpusReader(std::vector<std::filesystem::path> inputs);

  /// False at the end.
  /// Throws: as ByteStream::read.
  bool next(RawRow& row);

  /// The next rows of together about `bytes`; nothing at the end.
  /// Throws: as next.
  std::optional<std::vector<RawRow>> next_block(std::size_t bytes);

  /// Bytes of the files as they lie on disk.
  [[nodiscard]] std::int64_t bytes_done() const;
  [[nodiscard]] std::int64_t bytes_total() const { return total_; }

 private:
  struct Separator {
    std::size_t begin, end;
  };
  bool open_next();
  bool fill();
  [[nodiscard]] std::optional<Separator> find_separator() const;
  void take(std::size_t end, RawRow& row);
  void drop(std::size_t count);

  std::vector<std::filesystem::path> inputs_;
  std::size_t next_input_ = 0;
  std::optional<ByteStream> stream_;
  std::string name_;
  bool json_ = false;
  bool ended_ = false;
  std::string buffer_;  // read and not yet given: [begin_, size)
  std::size_t begin_ = 0;
  std::size_t searched_ = 0;  // no separator begins before this offset
  std::int64_t line_ = 1, column_ = 1;  // of buffer_[begin_]
  std::int64_t total_ = 0, finished_ = 0;
};

}  // namespace catena::data
