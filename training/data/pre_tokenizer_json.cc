#include "training/data/pre_tokenizer_json.h"

#include <array>
#include <string>
#include <utility>

#include "runtime/base/error.h"

namespace catena::data {
namespace {

constexpr int kDeepestSequence = 8;

constexpr std::array<std::pair<std::string_view, Behavior>, 5> kBehaviors{
    {{"Removed", Behavior::kRemoved},
     {"Isolated", Behavior::kIsolated},
     {"MergedWithPrevious", Behavior::kMergedWithPrevious},
     {"MergedWithNext", Behavior::kMergedWithNext},
     {"Contiguous", Behavior::kContiguous}}};

Behavior parse_behavior(const JsonNode& node) {
  for (const auto& [name, behavior] : kBehaviors) {
    if (node.text() == name) return behavior;
  }
  node.refuse(
      fmt::format("is {:?}; expected Removed, Isolated, MergedWithPrevious, "
                  "MergedWithNext or Contiguous",
                  node.text()));
}

// Puts the key in front of what the pattern compiler has to say.
template <class Compile>
Regex compile(const JsonNode& node, const Compile& compile_text) {
  try {
    return compile_text(node.text());
  } catch (const Error& error) {
    node.refuse(fmt::format("cannot be used: {}", error.what()));
  }
}

Splitter parse_split(const JsonNode& node) {
  const JsonNode pattern = node.member("pattern");
  const JsonNode regex = pattern.member("Regex");
  const JsonNode text = pattern.member("String");
  if (regex.is_null() && text.is_null()) {
    pattern.refuse("has neither \"Regex\" nor \"String\"");
  }
  if (regex.is_null() && text.text().empty()) text.refuse("is empty");
  Regex compiled =
      regex.is_null()
          ? compile(text, [](const auto& t) { return Regex::literal(t); })
          : compile(regex, [](const auto& t) { return Regex(t); });
  return {std::move(compiled), parse_behavior(node.member("behavior")),
          node.member("invert").flag_or(false)};
}

void parse_stage(const JsonNode& node, int depth, bool& byte_level,
                 PreTokenizer& out) {
  const JsonNode type = node.member("type");
  if (byte_level) node.refuse("stands behind ByteLevel, which must be last");
  if (type.text() == "Sequence") {
    const JsonNode list = node.member("pretokenizers");
    if (depth == kDeepestSequence) node.refuse("is nested too deeply");
    for (std::size_t i = 0; i < list.size(); ++i) {
      parse_stage(list.element(i), depth + 1, byte_level, out);
    }
  } else if (type.text() == "Split") {
    out.stages.push_back(parse_split(node));
  } else if (type.text() == "Digits") {
    out.stages.push_back(
        Splitter::digits(node.member("individual_digits").flag_or(false)));
  } else if (type.text() == "ByteLevel") {
    byte_level = true;
    out.prefix_space = node.member("add_prefix_space").flag_or(true);
    if (node.member("use_regex").flag_or(true)) {
      out.byte_level = Splitter::gpt2();
    }
  } else {
    type.refuse(fmt::format(
        "is {:?}; supported are Sequence, Split, Digits and ByteLevel",
        type.text()));
  }
}

bool parse_normalizer(const JsonNode& node, int depth) {
  if (node.is_null()) return false;
  const JsonNode type = node.member("type");
  if (type.text() == "NFC") return true;
  if (type.text() != "Sequence") {
    type.refuse(
        fmt::format("is {:?}; supported are NFC and none", type.text()));
  }
  if (depth == kDeepestSequence) node.refuse("is nested too deeply");
  const JsonNode list = node.member("normalizers");
  bool compose = false;
  for (std::size_t i = 0; i < list.size(); ++i) {
    compose |= parse_normalizer(list.element(i), depth + 1);
  }
  return compose;
}

void check_decoder(const JsonNode& node, int depth) {
  if (node.is_null()) return;
  const JsonNode type = node.member("type");
  if (type.text() == "ByteLevel" || type.text() == "Fuse") return;
  if (type.text() != "Sequence") {
    type.refuse(fmt::format("is {:?}; the only one supported is ByteLevel",
                            type.text()));
  }
  if (depth == kDeepestSequence) node.refuse("is nested too deeply");
  const JsonNode list = node.member("decoders");
  for (std::size_t i = 0; i < list.size(); ++i) {
    check_decoder(list.element(i), depth + 1);
  }
}

}  // namespace

PreTokenizer parse_pre_tokenizer(const JsonNode& node) {
  PreTokenizer out;
  bool byte_level = false;
  if (!node.is_null()) parse_stage(node, 0, byte_level, out);
  if (!byte_level) {
    node.refuse("has no ByteLevel; only byte-level tokenizers are supported");
  }
  return out;
}

bool parse_normalizer(const JsonNode& node) {
  return parse_normalizer(node, 0);
}

void check_decoder(const JsonNode& node) { check_decoder(node, 0); }

}  // namespace catena::data
