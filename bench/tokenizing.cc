#include "bench/tokenizing.h"

#include "bench/timing.h"
#include "training/data/tokenizer.h"

namespace catena::bench {
namespace {

constexpr int kPasses = 5;

}  // namespace

Text read_text(const std::filesystem::path& path, std::size_t limit) {
  data::CorpusReader reader({path});
  const data::RowTemplate row_template;
  Text text;
  data::RawRow row;
  while (text.bytes < static_cast<double>(limit) && reader.next(row)) {
    text.documents.push_back(data::parse_row(row, row_template));
    text.bytes += static_cast<double>(text.documents.back().text.size());
  }
  return text;
}

TokenizingSpeed time_tokenizing(const std::filesystem::path& path,
                                const Text& text) {
  const auto tokenizer = data::Tokenizer::load(path);
  std::vector<double> speeds;
  double tokens = 0;
  for (int pass = 0; pass <= kPasses; ++pass) {
    tokens = 0;
    const double seconds = core_seconds_of([&] {
      for (const data::Document& document : text.documents) {
        tokens += static_cast<double>(
            tokenizer.encode_with_offsets(document.text).size());
      }
    });
    speeds.push_back(text.bytes / seconds);
  }
  const double first = speeds.front();
  speeds.erase(speeds.begin());
  return {first, median(speeds), text.bytes / tokens};
}

}  // namespace catena::bench
