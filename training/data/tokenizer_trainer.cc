#include "training/data/tokenizer_trainer.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "runtime/base/error.h"
#include "training/data/byte_alphabet.h"
#include "training/data/ordered_pipeline.h"
#include "training/data/pre_tokenizer.h"
#include "training/data/threads.h"
#include "training/data/tokenizer_parts.h"

namespace catena::data {
namespace {

constexpr std::size_t kBlockBytes = std::size_t{1} << 20;
constexpr std::int64_t kBytes = 256;

struct Counted {
  PieceCounts pieces;
  std::int64_t documents = 0;
  BadRows bad;
};

Counted count_pieces(const std::vector<RawRow>& rows,
                     const RowTemplate& row_template, bool skip_bad_rows,
                     const PreTokenizer& pre_tokenizer) {
  Counted counted;
  const auto documents =
      parse_rows(rows, row_template, skip_bad_rows ? &counted.bad : nullptr);
  std::vector<Span> pieces;
  for (const Document& document : documents) {
    AlignedText text(document.text, 0);
    pre_tokenizer.split(text, pieces);
    for (const Span& piece : pieces) {
      ++counted
            .pieces[document.text.substr(piece.begin, piece.end - piece.begin)];
    }
  }
  counted.documents = static_cast<std::int64_t>(documents.size());
  return counted;
}

Counted count_corpus(const TrainTokenizerOptions& options) {
  const RowTemplate row_template(options.row_template);
  PreTokenizer pre_tokenizer;
  pre_tokenizer.byte_level = Splitter::gpt2();
  CorpusReader reader(options.inputs);
  Counted all;
  ordered_pipeline(
      thread_count(options.threads),
      [&] { return reader.next_block(kBlockBytes); },
      [&](const std::vector<RawRow>& rows) {
        return count_pieces(rows, row_template, options.skip_bad_rows,
                            pre_tokenizer);
      },
      [&](Counted block) {
        for (const auto& [piece, count] : block.pieces) {
          all.pieces[piece] += count;
        }
        all.documents += block.documents;
        all.bad.add(block.bad);
        if (options.progress) {
          options.progress(reader.bytes_done(), reader.bytes_total());
        }
      });
  return all;
}

std::string describe(const std::string& end_of_text,
                     const std::vector<LearnedMerge>& merges) {
  TokenizerDescription description;
  description.special.push_back(end_of_text);
  std::vector<std::string> names;
  for (int byte = 0; byte < kBytes; ++byte) {
    names.emplace_back(spelled_byte(static_cast<std::uint8_t>(byte)));
  }
  for (const LearnedMerge& merge : merges) {
    const std::string left = names[static_cast<std::size_t>(merge.left)];
    const std::string right = names[static_cast<std::size_t>(merge.right)];
    description.merges.push_back(left + " " + right);
    if (merge.merged == static_cast<std::int32_t>(names.size())) {
      names.push_back(left + right);
    }
  }
  description.vocabulary = {end_of_text};
  description.vocabulary.insert(description.vocabulary.end(), names.begin(),
                                names.end());
  return write_tokenizer_json(description);
}

}  // namespace

TrainedTokenizer train_tokenizer(const TrainTokenizerOptions& options) {
  if (options.vocabulary < kBytes + 1 ||
      options.vocabulary > Vocabulary::kLimit) {
    fail(ErrorKind::kUsage,
         "a vocabulary of {} tokens: must be from {} (256 bytes and the end of "
         "text) to {}",
         options.vocabulary, kBytes + 1, Vocabulary::kLimit);
  }
  const Counted counted = count_corpus(options);
  if (counted.pieces.empty()) {
    fail(ErrorKind::kData, "{}: no text to train a tokenizer on",
         options.inputs.empty() ? "no input" : options.inputs[0].string());
  }
  const auto merges =
      learn_merges(counted.pieces, options.vocabulary - kBytes - 1);
  TrainedTokenizer trained;
  trained.json = describe(options.end_of_text, merges);
  trained.vocabulary = kBytes + 1;
  for (const LearnedMerge& merge : merges) {
    trained.vocabulary =
        std::max<std::int64_t>(trained.vocabulary, merge.merged + 2);
  }
  trained.documents = counted.documents;
  trained.bad_rows = counted.bad;
  return trained;
}

}  // namespace catena::data
