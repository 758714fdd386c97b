#include "training/data/tokenizer.h"

#include <array>
#include <limits>
#include <utility>

#include "runtime/base/error.h"
#include "runtime/base/files.h"
#include "runtime/base/hash.h"
#include "training/data/json_node.h"
#include "training/data/tokenizer_parts.h"

namespace catena::data {
namespace fs = std::filesystem;

struct Tokenizer::Implementation {
  std::string json;
  std::uint64_t hash = 0;
  TokenizerParts parts;
  AddedTokenFinder raw, normalized;
  std::vector<bool> special;
  std::optional<std::int32_t> end_of_text;

  void find_end_of_text();
  void read_config(const fs::path& path);
  void encode(std::string_view text, std::vector<std::int32_t>& ids,
              std::vector<TokenSpan>* spans) const;
  void encode_plain(AlignedText text, std::vector<std::int32_t>& ids,
                    std::vector<TokenSpan>* spans) const;
  void locate(const AlignedText& text, Span piece, const std::int32_t* ids,
              std::size_t count, std::vector<TokenSpan>& spans) const;
};

namespace {

constexpr std::array kEndOfTextNames{"<|endoftext|>",
                                     "<|end_of_text|>",
                                     "<\xEF\xBD\x9C"
                                     "end\xE2\x96\x81of"
                                     "\xE2\x96\x81sentence\xEF\xBD\x9C>",
                                     "</s>",
                                     "<eos>",
                                     "[EOS]",
                                     "<|eot_id|>",
                                     "<|im_end|>"};

// The path itself, or the one of `names` that a folder holds.
fs::path locate_file(const fs::path& path, const std::string& name) {
  return fs::is_directory(path) ? path / name : path.parent_path() / name;
}

}  // namespace

void Tokenizer::Implementation::find_end_of_text() {
  for (const std::string_view name : kEndOfTextNames) {
    for (const AddedToken& token : parts.added) {
      if (token.content == name) {
        end_of_text = token.id;
        return;
      }
    }
  }
}

void Tokenizer::Implementation::read_config(const fs::path& path) {
  if (end_of_text || !fs::exists(path)) return;
  const nlohmann::json document =
      parse_json(catena::read_file(path), path.string());
  const JsonNode root(document, path.string(), "");
  JsonNode name = root.member("eos_token");
  if (name.value().is_object()) name = name.member("content");
  if (!name.is_null()) end_of_text = parts.vocabulary.find(name.text());
}

void Tokenizer::Implementation::encode(std::string_view text,
                                       std::vector<std::int32_t>& ids,
                                       std::vector<TokenSpan>* spans) const {
  if (text.size() > std::numeric_limits<std::int32_t>::max()) {
    fail(ErrorKind::kData, "a text of {} bytes is too long to encode at once",
         text.size());
  }
  const std::size_t invalid = invalid_utf8(text);
  if (invalid != std::string_view::npos) {
    fail(ErrorKind::kData, "byte {} of the text (0x{:02X}) is not valid UTF-8",
         invalid, static_cast<unsigned char>(text[invalid]));
  }
  for (const auto& part : raw.find(text)) {
    const Span& span = part.span;
    if (part.id >= 0) {
      ids.push_back(part.id);
      if (spans) spans->push_back({part.id, span.begin, span.end});
      continue;
    }
    AlignedText rest(text.substr(span.begin, span.end - span.begin),
                     span.begin);
    if (parts.compose) rest.compose();
    for (const auto& piece : normalized.find(rest.text())) {
      if (piece.id < 0) {
        encode_plain(rest.slice(piece.span), ids, spans);
        continue;
      }
      ids.push_back(piece.id);
      if (spans) {
        spans->push_back({piece.id, rest.origin(piece.span.begin).begin,
                          rest.origin(piece.span.end - 1).end});
      }
    }
  }
}

void Tokenizer::Implementation::encode_plain(
    AlignedText text, std::vector<std::int32_t>& ids,
    std::vector<TokenSpan>* spans) const {
  thread_local std::vector<Span> pieces;
  parts.pre_tokenizer.split(text, pieces);
  for (const Span& piece : pieces) {
    const std::size_t before = ids.size();
    parts.encoder.encode(
        text.text().substr(piece.begin, piece.end - piece.begin), ids);
    if (spans) {
      locate(text, piece, ids.data() + before, ids.size() - before, *spans);
    }
  }
}

void Tokenizer::Implementation::locate(const AlignedText& text, Span piece,
                                       const std::int32_t* ids,
                                       std::size_t count,
                                       std::vector<TokenSpan>& spans) const {
  std::size_t at = piece.begin;
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t end = at + parts.vocabulary.bytes(ids[i]).size();
    spans.push_back({ids[i], text.origin(at).begin, text.origin(end - 1).end});
    at = end;
  }
}

Tokenizer::Tokenizer(std::unique_ptr<Implementation> implementation)
    : implementation_(std::move(implementation)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Tokenizer Tokenizer::from_json(std::string_view json, const std::string& name) {
  auto made = std::make_unique<Implementation>();
  made->parts = parse_tokenizer_json(json, name);
  made->json = json;
  made->hash = hash64(json);
  const auto& vocabulary = made->parts.vocabulary;
  made->special.resize(static_cast<std::size_t>(vocabulary.size()), false);
  for (AddedToken token : made->parts.added) {
    made->special[static_cast<std::size_t>(token.id)] = token.special;
    if (!token.normalized) {
      made->raw.add(token);
      continue;
    }
    AlignedText content(token.content, 0);
    if (made->parts.compose) content.compose();
    token.content = content.text();
    made->normalized.add(token);
  }
  made->find_end_of_text();
  return Tokenizer(std::move(made));
}

Tokenizer Tokenizer::load(const fs::path& path) {
  if (!fs::exists(path)) {
    fail(ErrorKind::kData,
         "{}: no such file; give a tokenizer.json, a folder that holds one, "
         "or GPT-2's vocab.json",
         path.string());
  }
  const fs::path vocab = locate_file(path, "vocab.json");
  const fs::path merges = locate_file(path, "merges.txt");
  const fs::path json = fs::is_directory(path) ? path / "tokenizer.json" : path;
  const bool pair =
      fs::is_directory(path)
          ? !fs::exists(json)
          : path.filename() == "vocab.json" || path.filename() == "merges.txt";
  if (pair && !(fs::exists(vocab) && fs::exists(merges))) {
    fail(ErrorKind::kData,
         "{}: neither a tokenizer.json nor vocab.json and merges.txt there",
         path.string());
  }
  Tokenizer made =
      pair ? from_json(tokenizer_json_from_merges(
                           catena::read_file(vocab), vocab.string(),
                           catena::read_file(merges), merges.string()),
                       merges.string())
           : from_json(catena::read_file(json), json.string());
  made.implementation_->read_config(locate_file(path, "tokenizer_config.json"));
  return made;
}

std::vector<std::int32_t> Tokenizer::encode(std::string_view text) const {
  std::vector<std::int32_t> ids;
  ids.reserve(text.size() / 3);
  implementation_->encode(text, ids, nullptr);
  return ids;
}

std::vector<TokenSpan> Tokenizer::encode_with_offsets(
    std::string_view text) const {
  std::vector<std::int32_t> ids;
  std::vector<TokenSpan> spans;
  implementation_->encode(text, ids, &spans);
  return spans;
}

std::string Tokenizer::decode(std::span<const std::int32_t> ids) const {
  std::string text;
  for (const std::int32_t id : ids) {
    if (id < 0 || id >= vocabulary_size()) {
      fail(ErrorKind::kData, "token id {} is outside the vocabulary [0, {})",
           id, vocabulary_size());
    }
    text += implementation_->parts.vocabulary.bytes(id);
  }
  return text;
}

std::int32_t Tokenizer::vocabulary_size() const {
  return implementation_->parts.vocabulary.size();
}

std::optional<std::int32_t> Tokenizer::id_of(std::string_view content) const {
  return implementation_->parts.vocabulary.find(content);
}

std::optional<std::int32_t> Tokenizer::end_of_text() const {
  return implementation_->end_of_text;
}

bool Tokenizer::is_special(std::int32_t id) const {
  return id >= 0 && id < vocabulary_size() &&
         implementation_->special[static_cast<std::size_t>(id)];
}

const std::string& Tokenizer::json() const { return implementation_->json; }

std::uint64_t Tokenizer::hash() const { return implementation_->hash; }

}  // namespace catena::data
