#include "training/data/corpus.h"

#include <algorithm>
#include <utility>

#include "runtime/base/error.h"

namespace catena::data {
namespace {

constexpr std::string_view kEndOfText = "<|endoftext|>";
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
constexpr std::size_t kReadBytes = std::size_t{1} << 18;

bool has_suffix(const std::string& name,
                std::initializer_list<const char*> suffixes) {
  return std::any_of(suffixes.begin(), suffixes.end(),
                     [&](const char* s) { return name.ends_with(s); });
}

bool blank(std::string_view text) {
  return text.find_first_not_of(" \t\r\n") == std::string_view::npos;
}

}  // namespace

bool holds_json(const std::filesystem::path& path) {
  std::string name = path.filename().string();
  if (name.ends_with(".zst")) name.resize(name.size() - 4);
  if (has_suffix(name, {".jsonl", ".ndjson", ".json"})) return true;
  if (has_suffix(name, {".txt", ".text", ".md"})) return false;
  fail(ErrorKind::kData,
       "{}: cannot tell what it holds; name it .jsonl (one JSON object a line) "
       "or .txt, with .zst behind that if it is compressed",
       path.string());
}

CorpusReader::CorpusReader(std::vector<std::filesystem::path> inputs)
    : inputs_(std::move(inputs)) {
  for (const auto& path : inputs_) {
    const ByteStream probe(path);
    static_cast<void>(holds_json(path));
    std::error_code not_a_plain_file;
    const auto size = std::filesystem::file_size(path, not_a_plain_file);
    if (!not_a_plain_file) total_ += static_cast<std::int64_t>(size);
  }
}

std::int64_t CorpusReader::bytes_done() const {
  return finished_ + (stream_ ? stream_->consumed_bytes() : 0);
}

std::optional<std::vector<RawRow>> CorpusReader::next_block(std::size_t bytes) {
  std::vector<RawRow> rows;
  RawRow row;
  for (std::size_t size = 0; size < bytes && next(row);) {
    size += row.bytes.size();
    rows.push_back(std::move(row));
  }
  if (rows.empty()) return std::nullopt;
  return rows;
}

bool CorpusReader::open_next() {
  if (stream_) finished_ += stream_->consumed_bytes();
  stream_.reset();
  if (next_input_ == inputs_.size()) return false;
  const auto& path = inputs_[next_input_++];
  stream_.emplace(path);
  name_ = path.string();
  json_ = holds_json(path);
  buffer_.clear();
  begin_ = searched_ = 0;
  line_ = column_ = 1;
  ended_ = false;
  while (buffer_.size() < kByteOrderMark.size() && fill()) continue;
  if (buffer_.starts_with(kByteOrderMark)) {
    begin_ = searched_ = kByteOrderMark.size();
  }
  return true;
}

bool CorpusReader::fill() {
  if (ended_) return false;
  buffer_.erase(0, begin_);
  searched_ -= begin_;
  begin_ = 0;
  const std::size_t before = buffer_.size();
  buffer_.resize(before + kReadBytes);
  const std::size_t count = stream_->read(buffer_.data() + before, kReadBytes);
  buffer_.resize(before + count);
  ended_ = count == 0;
  return !ended_;
}

std::optional<CorpusReader::Separator> CorpusReader::find_separator() const {
  if (json_) {
    const auto newline = buffer_.find('\n', searched_);
    if (newline == std::string::npos) return std::nullopt;
    return Separator{newline, newline + 1};
  }
  const auto feed = buffer_.find('\f', searched_);
  const auto mark = buffer_.find(kEndOfText, searched_);
  if (std::min(feed, mark) == std::string::npos) return std::nullopt;
  return feed < mark ? Separator{feed, feed + 1}
                     : Separator{mark, mark + kEndOfText.size()};
}

void CorpusReader::drop(std::size_t count) {
  const std::string_view gone = std::string_view(buffer_).substr(begin_, count);
  const auto newline = gone.rfind('\n');
  if (newline == std::string_view::npos) {
    column_ += static_cast<std::int64_t>(count);
  } else {
    line_ += std::count(gone.begin(), gone.end(), '\n');
    column_ = static_cast<std::int64_t>(count - newline);
  }
  begin_ += count;
  searched_ = begin_;
}

void CorpusReader::take(std::size_t end, RawRow& row) {
  row.bytes.assign(buffer_, begin_, end - begin_);
  row.file = name_;
  row.line = line_;
  row.column = column_;
  row.json = json_;
  drop(end - begin_);
}

bool CorpusReader::next(RawRow& row) {
  for (;;) {
    if (!stream_ && !open_next()) return false;
    const auto separator = find_separator();
    if (separator) {
      take(separator->begin, row);
      drop(separator->end - separator->begin);
    } else {
      // A separator may have begun in the last bytes seen.
      const std::size_t kept = json_ ? 0 : kEndOfText.size() - 1;
      searched_ =
          std::max(begin_, buffer_.size() - std::min(buffer_.size(), kept));
      if (fill()) continue;
      take(buffer_.size(), row);
      finished_ += stream_->consumed_bytes();
      stream_.reset();
    }
    if (!blank(row.bytes)) return true;
  }
}

}  // namespace catena::data
