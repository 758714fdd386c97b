#include "training/data/aligned_text.h"

#include <utf8proc.h>

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <utility>

#include "runtime/base/error.h"

namespace catena::data {
namespace {

// Below this, no character combines with one before it, and alone each is its
// own composed form.
constexpr char32_t kFirstCombining = 0x300;

// True if normalising cuts cleanly in front of the character: it is a starter
// that no composition takes as its second part.
bool begins_segment(char32_t c) {
  if (c < kFirstCombining) return true;
  const bool hangul_vowel_or_tail =
      (c >= 0x1161 && c <= 0x1175) || (c >= 0x11A8 && c <= 0x11C2);
  if (hangul_vowel_or_tail) return false;
  const auto* property = utf8proc_get_property(static_cast<int32_t>(c));
  return property->combining_class == 0 && property->comb_index == UINT16_MAX &&
         (property->decomp_seqindex == UINT16_MAX ||
          property->decomp_type != 0);
}

std::string composed(std::string_view text) {
  utf8proc_uint8_t* result = nullptr;
  const auto options =
      static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE);
  const auto size = utf8proc_map(
      reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
      static_cast<utf8proc_ssize_t>(text.size()), &result, options);
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(
      result, &std::free);
  if (size < 0) {
    fail(ErrorKind::kInternal, "[normalise] {}", utf8proc_errmsg(size));
  }
  return {reinterpret_cast<const char*>(result), static_cast<size_t>(size)};
}

std::size_t segment_end(std::string_view text, std::size_t begin) {
  std::size_t end = begin + code_point(text, begin).bytes;
  while (end < text.size()) {
    const CodePoint next = code_point(text, end);
    if (begins_segment(next.value)) break;
    end += next.bytes;
  }
  return end;
}

bool all_below_combining(std::string_view text) {
  for (const char c : text) {
    // 0xCC leads U+0300, and every later lead byte is larger.
    if (static_cast<unsigned char>(c) >= 0xCC) return false;
  }
  return true;
}

}  // namespace

AlignedText AlignedText::slice(Span span) const {
  const std::string_view part =
      text().substr(span.begin, span.end - span.begin);
  if (!changed_) return {part, base_ + span.begin};
  AlignedText copy(part, 0);
  const auto first = origins_.begin() + static_cast<std::ptrdiff_t>(span.begin);
  const auto last = origins_.begin() + static_cast<std::ptrdiff_t>(span.end);
  copy.replace(std::string(part), std::vector<Span>(first, last));
  return copy;
}

void AlignedText::replace(std::string text, std::vector<Span> origins) {
  CATENA_CHECK(text.size() == origins.size(), "[align] {} bytes, {} origins",
               text.size(), origins.size());
  owned_ = std::move(text);
  origins_ = std::move(origins);
  changed_ = true;
}

void AlignedText::compose() {
  const std::string_view source = text();
  if (all_below_combining(source) || composed(source) == source) return;
  std::string out;
  std::vector<Span> origins;
  for (std::size_t begin = 0; begin < source.size();) {
    const std::size_t end = segment_end(source, begin);
    const std::string_view before = source.substr(begin, end - begin);
    const std::string after = composed(before);
    const Span whole{origin(begin).begin, origin(end - 1).end};
    for (std::size_t i = 0; i < after.size(); ++i) {
      origins.push_back(after == before ? origin(begin + i) : whole);
    }
    out += after;
    begin = end;
  }
  replace(std::move(out), std::move(origins));
}

}  // namespace catena::data
