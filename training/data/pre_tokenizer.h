#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "training/data/aligned_text.h"
#include "training/data/regex.h"

namespace catena::data {

/// What becomes of the matches of a splitting pattern. On "ab-cd-ef" with "-":
enum class Behavior {
  kRemoved,             ///< ab cd ef
  kIsolated,            ///< ab - cd - ef
  kMergedWithPrevious,  ///< ab- cd- ef
  kMergedWithNext,      ///< ab -cd -ef
  kContiguous,          ///< as isolated, but neighbouring matches are one
};

/// One stage: cuts a piece at the matches of a pattern. With `invert` the
/// stretches between the matches play the matches' part.
class Splitter {
 public:
  Splitter(Regex pattern, Behavior behavior, bool invert)
      : pattern_(std::move(pattern)), behavior_(behavior), invert_(invert) {}
  /// Numeric characters (Nd, Nl, No) one by one, or in runs.
  static Splitter digits(bool individual);
  /// GPT-2's pattern, every match isolated.
  static Splitter gpt2();

  /// Replaces `pieces` of `text` by the pieces they are cut into, in order,
  /// none of them empty.
  void split(std::string_view text, std::vector<Span>& pieces) const;

 private:
  void split_piece(std::string_view text, Span piece,
                   std::vector<Span>& out) const;

  Regex pattern_;
  Behavior behavior_;
  bool invert_;
};

/// The stages of a byte-level tokenizer: each splits every piece of the stage
/// before; then, with `prefix_space`, a piece that does not begin with a space
/// gets one in front; then the byte-level pattern, if there is one.
/// Thread rule: const after construction, any number of threads.
struct PreTokenizer {
  std::vector<Splitter> stages;
  bool prefix_space = false;
  std::optional<Splitter> byte_level;

  /// Pieces of text.text(). Adds the prefix spaces to `text`.
  void split(AlignedText& text, std::vector<Span>& pieces) const;
};

}  // namespace catena::data
