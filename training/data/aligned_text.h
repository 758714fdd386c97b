#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "training/data/utf8.h"

namespace catena::data {

/// Text together with where each of its bytes came from in an original text.
/// As long as nothing was changed it borrows the original, which must outlive
/// it, and costs nothing.
class AlignedText {
 public:
  /// `base`: offset of `original` in the whole text that origins refer to.
  AlignedText(std::string_view original, std::size_t base)
      : borrowed_(original), base_(base) {}

  [[nodiscard]] std::string_view text() const {
    return changed_ ? std::string_view(owned_) : borrowed_;
  }
  /// Bytes of the original that byte `i` of text() stands for. Empty for an
  /// inserted byte.
  [[nodiscard]] Span origin(std::size_t i) const {
    return changed_ ? origins_[i] : Span{base_ + i, base_ + i + 1};
  }
  [[nodiscard]] AlignedText slice(Span span) const;

  /// origins.size() == text.size().
  void replace(std::string text, std::vector<Span> origins);

  /// Unicode normalisation form C. Where the text was not already in it, the
  /// bytes of a composed sequence all stand for the whole original sequence.
  void compose();

 private:
  std::string_view borrowed_;
  std::size_t base_;
  bool changed_ = false;
  std::string owned_;
  std::vector<Span> origins_;
};

}  // namespace catena::data
