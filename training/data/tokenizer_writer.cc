#include <nlohmann/json.hpp>

#include "runtime/base/error.h"
#include "training/data/json_node.h"
#include "training/data/tokenizer_parts.h"

namespace catena::data {
namespace {

using OrderedJson = nlohmann::ordered_json;

OrderedJson byte_level() {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", false},
          {"trim_offsets", true},
          {"use_regex", true}};
}

OrderedJson special_token(std::int64_t id, const std::string& content) {
  return {{"id", id},        {"content", content}, {"single_word", false},
          {"lstrip", false}, {"rstrip", false},    {"normalized", false},
          {"special", true}};
}

std::string document(OrderedJson added, OrderedJson vocabulary,
                     OrderedJson merges) {
  OrderedJson model = {{"type", "BPE"},
                       {"dropout", nullptr},
                       {"unk_token", nullptr},
                       {"continuing_subword_prefix", nullptr},
                       {"end_of_word_suffix", nullptr},
                       {"fuse_unk", false},
                       {"byte_fallback", false}};
  model["vocab"] = std::move(vocabulary);
  model["merges"] = std::move(merges);
  OrderedJson root = {
      {"version", "1.0"}, {"truncation", nullptr}, {"padding", nullptr}};
  root["added_tokens"] = std::move(added);
  root["normalizer"] = nullptr;
  root["pre_tokenizer"] = byte_level();
  root["post_processor"] = nullptr;
  root["decoder"] = byte_level();
  root["model"] = std::move(model);
  return root.dump(1) + "\n";
}

OrderedJson read_merge_lines(std::string_view text, const std::string& name) {
  OrderedJson merges = OrderedJson::array();
  int line_number = 0;
  while (!text.empty()) {
    const auto end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    ++line_number;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty() || line.starts_with("#version")) continue;
    const auto space = line.find(' ');
    if (space == 0 || space + 1 >= line.size() ||
        line.find(' ', space + 1) != std::string_view::npos) {
      fail(ErrorKind::kData, "{}:{}:1: expected two tokens and one space", name,
           line_number);
    }
    const std::size_t invalid = invalid_utf8(line);
    if (invalid != std::string_view::npos) {
      fail(ErrorKind::kData, "{}:{}:{}: not valid UTF-8", name, line_number,
           invalid + 1);
    }
    merges.push_back(std::string(line));
  }
  return merges;
}

}  // namespace

std::string write_tokenizer_json(const TokenizerDescription& description) {
  OrderedJson vocabulary = OrderedJson::object();
  OrderedJson added = OrderedJson::array();
  std::int64_t id = 0;
  for (const std::string& spelling : description.vocabulary) {
    const auto& special = description.special;
    if (std::find(special.begin(), special.end(), spelling) != special.end()) {
      added.push_back(special_token(id, spelling));
    }
    // ordered_json looks a key up one by one before adding it.
    vocabulary.get_ref<OrderedJson::object_t&>().emplace_back(spelling, id++);
  }
  return document(std::move(added), std::move(vocabulary), description.merges);
}

std::string tokenizer_json_from_merges(std::string_view vocab_json,
                                       const std::string& vocab_name,
                                       std::string_view merges_text,
                                       const std::string& merges_name) {
  const nlohmann::json vocab = parse_json(vocab_json, vocab_name);
  const JsonNode root(vocab, vocab_name, "");
  root.require_object();
  std::vector<std::pair<std::int64_t, std::string>> entries;
  for (const auto& [spelling, id] : vocab.items()) {
    entries.emplace_back(root.member(spelling).integer(), spelling);
  }
  std::sort(entries.begin(), entries.end());
  OrderedJson vocabulary = OrderedJson::object();
  OrderedJson added = OrderedJson::array();
  for (const auto& [id, spelling] : entries) {
    if (spelling == "<|endoftext|>")
      added.push_back(special_token(id, spelling));
    vocabulary.get_ref<OrderedJson::object_t&>().emplace_back(spelling, id);
  }
  return document(std::move(added), std::move(vocabulary),
                  read_merge_lines(merges_text, merges_name));
}

}  // namespace catena::data
