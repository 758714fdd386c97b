#include "training/data/added_tokens.h"

#include <algorithm>

namespace catena::data {
namespace {

bool stands_alone(std::string_view text, Span match) {
  const bool word_before =
      match.begin > 0 && is_word(code_point_before(text, match.begin).value);
  const bool word_after =
      match.end < text.size() && is_word(code_point(text, match.end).value);
  return !word_before && !word_after;
}

std::size_t spaces_begin(std::string_view text, std::size_t end,
                         std::size_t limit) {
  while (end > limit) {
    const CodePoint before = code_point_before(text, end);
    if (!is_space(before.value)) break;
    end -= before.bytes;
  }
  return end;
}

std::size_t spaces_end(std::string_view text, std::size_t begin) {
  while (begin < text.size()) {
    const CodePoint next = code_point(text, begin);
    if (!is_space(next.value)) break;
    begin += next.bytes;
  }
  return begin;
}

}  // namespace

void AddedTokenFinder::add(const AddedToken& token) {
  if (token.content.empty()) return;
  std::int32_t node = 0;
  for (const char c : token.content) {
    const auto byte = static_cast<unsigned char>(c);
    std::int32_t next = child(node, byte);
    if (next < 0) {
      next = static_cast<std::int32_t>(nodes_.size());
      nodes_[static_cast<std::size_t>(node)].edges.push_back({byte, next});
      nodes_.emplace_back();
    }
    node = next;
  }
  nodes_[static_cast<std::size_t>(node)].token =
      static_cast<std::int32_t>(tokens_.size());
  tokens_.push_back(token);
  first_bytes_[static_cast<unsigned char>(token.content[0])] = true;
}

std::int32_t AddedTokenFinder::child(std::int32_t node,
                                     unsigned char byte) const {
  for (const Edge& edge : nodes_[static_cast<std::size_t>(node)].edges) {
    if (edge.byte == byte) return edge.node;
  }
  return -1;
}

std::int32_t AddedTokenFinder::longest_at(std::string_view text,
                                          std::size_t begin) const {
  std::int32_t node = 0, found = -1;
  for (std::size_t i = begin; i < text.size(); ++i) {
    node = child(node, static_cast<unsigned char>(text[i]));
    if (node < 0) break;
    const std::int32_t token = nodes_[static_cast<std::size_t>(node)].token;
    if (token >= 0) found = token;
  }
  return found;
}

std::vector<AddedTokenFinder::Part> AddedTokenFinder::find(
    std::string_view text) const {
  std::vector<Part> parts;
  std::size_t done = 0;
  for (std::size_t i = 0; !empty() && i < text.size();) {
    const std::int32_t index = first_bytes_[static_cast<unsigned char>(text[i])]
                                   ? longest_at(text, i)
                                   : -1;
    if (index < 0) {
      ++i;
      continue;
    }
    const AddedToken& token = tokens_[static_cast<std::size_t>(index)];
    Span match{i, i + token.content.size()};
    i = match.end;
    if (token.single_word && !stands_alone(text, match)) continue;
    if (token.left_strip) match.begin = spaces_begin(text, match.begin, done);
    if (token.right_strip) i = match.end = spaces_end(text, match.end);
    if (done < match.begin) parts.push_back({{done, match.begin}, -1});
    parts.push_back({match, token.id});
    done = match.end;
  }
  if (done < text.size()) parts.push_back({{done, text.size()}, -1});
  return parts;
}

}  // namespace catena::data
