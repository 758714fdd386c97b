#include <nlohmann/json.hpp>

#include "runtime/base/error.h"
#include "training/data/byte_alphabet.h"
#include "training/data/json_node.h"
#include "training/data/pre_tokenizer_json.h"
#include "training/data/tokenizer_parts.h"

namespace catena::data {
namespace {

void require_plain_byte_pairs(const JsonNode& model) {
  const JsonNode type = model.member("type");
  if (!type.is_null() && type.text() != "BPE") {
    type.refuse(fmt::format(
        "is {:?}; the only kind supported is byte-level \"BPE\"", type.text()));
  }
  const JsonNode dropout = model.member("dropout");
  if (!dropout.is_null() && dropout.value() != 0) {
    dropout.refuse("is set; encoding must not be random, use null");
  }
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    const JsonNode node = model.member(key);
    if (!node.is_null() && !node.text().empty()) {
      node.refuse("is set; only byte-level tokenizers are supported");
    }
  }
  const JsonNode fallback = model.member("byte_fallback");
  if (fallback.flag_or(false)) {
    fallback.refuse("is true; only byte-level tokenizers are supported");
  }
}

void read_vocabulary(const JsonNode& node, Vocabulary& out) {
  node.require_object();
  for (const auto& [spelling, id] : node.value().items()) {
    const JsonNode entry(id, "", "");
    if (!id.is_number_integer()) {
      node.refuse(
          fmt::format("gives {:?} an id that is not an integer", spelling));
    }
    try {
      out.add(spelling, entry.integer());
    } catch (const Error& error) {
      node.refuse(fmt::format("is wrong: {}", error.what()));
    }
  }
}

// Both spellings: "left right" and ["left", "right"].
std::pair<std::string, std::string> read_pair(const JsonNode& node) {
  if (node.value().is_array()) {
    if (node.size() != 2) node.refuse("is not a pair");
    return {node.element(0).text(), node.element(1).text()};
  }
  const std::string& text = node.text();
  const auto space = text.find(' ');
  if (space == std::string::npos ||
      text.find(' ', space + 1) != std::string::npos) {
    node.refuse(
        fmt::format("is {:?}, expected two tokens and one space", text));
  }
  return {text.substr(0, space), text.substr(space + 1)};
}

void read_merges(const JsonNode& node, TokenizerParts& out) {
  const auto id_of = [&](const JsonNode& merge, const std::string& spelling) {
    const auto id = out.vocabulary.find(spelling);
    if (!id) {
      merge.refuse(
          fmt::format("needs the token {:?}, which is not in "
                      "model.vocab",
                      spelling));
    }
    return *id;
  };
  const std::size_t count = node.size();
  for (std::size_t i = 0; i < count; ++i) {
    const JsonNode merge = node.element(i);
    const auto [left, right] = read_pair(merge);
    const std::int32_t left_id = id_of(merge, left);
    const std::int32_t right_id = id_of(merge, right);
    out.encoder.add_merge(left_id, right_id, static_cast<std::int32_t>(i),
                          id_of(merge, left + right));
  }
}

// The letter of a byte the vocabulary lacks, listed among the added tokens.
bool completes_alphabet(const AddedToken& token, const Vocabulary& vocabulary) {
  if (token.special || vocabulary.find(token.content)) return false;
  const auto bytes = unspelled(token.content);
  return bytes && bytes->size() == 1 &&
         static_cast<unsigned char>((*bytes)[0]) >= 0x80;
}

AddedToken read_added_token(const JsonNode& node) {
  AddedToken token;
  token.content = node.member("content").text();
  token.special = node.member("special").flag_or(false);
  token.normalized = node.member("normalized").flag_or(!token.special);
  token.single_word = node.member("single_word").flag_or(false);
  token.left_strip = node.member("lstrip").flag_or(false);
  token.right_strip = node.member("rstrip").flag_or(false);
  return token;
}

void read_added_tokens(const JsonNode& list, TokenizerParts& out) {
  if (list.is_null()) return;
  const std::size_t count = list.size();
  for (std::size_t i = 0; i < count; ++i) {
    const JsonNode node = list.element(i);
    AddedToken token = read_added_token(node);
    const std::int64_t id = node.member("id").integer();
    const bool letter = completes_alphabet(token, out.vocabulary);
    try {
      if (letter) {
        out.vocabulary.add(token.content, id);
      } else {
        out.vocabulary.add_literal(token.content, id);
      }
    } catch (const Error& error) {
      node.refuse(fmt::format("is wrong: {}", error.what()));
    }
    token.id = static_cast<std::int32_t>(id);
    if (!letter) out.added.push_back(std::move(token));
  }
}

void set_bytes(TokenizerParts& out) {
  std::array<std::int32_t, 256> ids{};
  for (std::size_t byte = 0; byte < ids.size(); ++byte) {
    const auto spelling = spelled_byte(static_cast<std::uint8_t>(byte));
    ids[byte] = out.vocabulary.find(spelling).value_or(-1);
  }
  out.encoder.set_bytes(ids);
}

void read_whole_pieces(const JsonNode& vocabulary, TokenizerParts& out) {
  for (const auto& [spelling, id] : vocabulary.value().items()) {
    if (auto bytes = unspelled(spelling)) {
      out.encoder.add_whole(std::move(*bytes), id.get<std::int32_t>());
    }
  }
}

}  // namespace

TokenizerParts parse_tokenizer_json(std::string_view json,
                                    const std::string& name) {
  const nlohmann::json document = parse_json(json, name);
  const JsonNode root(document, name, "");
  root.require_object();
  const JsonNode model = root.member("model");
  if (model.is_null()) root.refuse("has no \"model\": not a tokenizer.json");
  require_plain_byte_pairs(model);
  TokenizerParts out;
  out.compose = parse_normalizer(root.member("normalizer"));
  out.pre_tokenizer = parse_pre_tokenizer(root.member("pre_tokenizer"));
  check_decoder(root.member("decoder"));
  read_vocabulary(model.member("vocab"), out.vocabulary);
  read_merges(model.member("merges"), out);
  if (model.member("ignore_merges").flag_or(false)) {
    read_whole_pieces(model.member("vocab"), out);
  }
  read_added_tokens(root.member("added_tokens"), out);
  set_bytes(out);
  if (out.vocabulary.size() == 0) model.refuse("has no tokens");
  return out;
}

}  // namespace catena::data
