#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "training/data/utf8.h"

namespace catena::data {

/// A token that is found in the text as it stands, before anything is split.
struct AddedToken {
  std::int32_t id = 0;
  std::string content;
  bool special = false;
  bool normalized = false;   ///< searched for after normalisation, not before
  bool single_word = false;  ///< only where no word character touches it
  bool left_strip = false;   ///< takes white space on its left
  bool right_strip = false;
};

/// Finds added tokens: leftmost first, the longest of those beginning there.
/// Thread rule: const after construction, any number of threads.
class AddedTokenFinder {
 public:
  AddedTokenFinder() : nodes_(1) {}
  /// Later tokens of the same content win. Empty contents are never found.
  void add(const AddedToken& token);
  [[nodiscard]] bool empty() const { return tokens_.empty(); }

  struct Part {
    Span span;
    std::int32_t id;  ///< -1: ordinary text
  };
  /// Cuts `text` into added tokens and the stretches between them, in order.
  [[nodiscard]] std::vector<Part> find(std::string_view text) const;

 private:
  struct Edge {
    unsigned char byte;
    std::int32_t node;
  };
  struct Node {
    std::vector<Edge> edges;
    std::int32_t token = -1;  // index into tokens_
  };

  [[nodiscard]] std::int32_t child(std::int32_t node, unsigned char byte) const;
  [[nodiscard]] std::int32_t longest_at(std::string_view text,
                                        std::size_t begin) const;

  std::vector<AddedToken> tokens_;
  std::vector<Node> nodes_;  // a trie; node 0 is the root
  bool first_bytes_[256] = {};
};

}  // namespace catena::data
