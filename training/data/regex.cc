#include "training/data/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <cctype>
#include <cstdint>

#include "runtime/base/error.h"

namespace catena::data {

struct Regex::Compiled {
  std::string shown;
  pcre2_code* code = nullptr;
  // Bit b is set if a match may begin with byte b; null if unknown.
  const std::uint8_t* first_bytes = nullptr;

  ~Compiled() { pcre2_code_free(code); }

  [[nodiscard]] bool may_begin_in(std::string_view text) const {
    if (first_bytes == nullptr) return true;
    for (const char c : text) {
      const auto byte = static_cast<unsigned char>(c);
      if ((first_bytes[byte >> 3] >> (byte & 7)) & 1) return true;
    }
    return false;
  }
};

namespace {

constexpr std::uint32_t kOptions =
    PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C;
constexpr std::size_t kJitStackBytes = std::size_t{16} << 20;
constexpr std::uint32_t kMatchLimit = 10'000'000;

std::string reason(int code) {
  PCRE2_UCHAR text[256] = {};
  pcre2_get_error_message(code, text, sizeof text);
  return reinterpret_cast<const char*>(text);
}

// White_Space. PCRE2's own \s also takes U+180E, and a list, unlike a property,
// tells the compiler which bytes a match can begin with.
constexpr std::string_view kSpaces =
    "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}"
    "\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}";

// PCRE2 10.42's own \w leaves marks out. Oniguruma counts the Latin-1 fractions
// and superscripts as word characters, but not inside a class.
constexpr std::string_view kWord = "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}";
constexpr std::string_view kLatinWord = "\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}";

// Rewrites an Oniguruma pattern for PCRE2, one construct at a time.
class Translation {
 public:
  explicit Translation(std::string_view pattern) : pattern_(pattern) {}

  std::string run() {
    while (at_ < pattern_.size()) {
      if (pattern_[at_] == '\\') {
        escape();
      } else if (in_class_) {
        class_character();
      } else {
        if (pattern_[at_] == '[') open_class();
        out_ += pattern_[at_++];
      }
    }
    return std::move(out_);
  }

 private:
  [[noreturn]] void refuse(std::string_view construct) const {
    fail(ErrorKind::kData, "pattern {:?}: {} at offset {} is not supported",
         pattern_, construct, at_);
  }

  void escape() {
    const char next = at_ + 1 < pattern_.size() ? pattern_[at_ + 1] : '\0';
    if (next == 'h' || next == 'H') refuse("\\h");
    if (next == 'W' && in_class_) refuse("\\W in a class");
    if (next == 's') {
      out_ += in_class_ ? std::string(kSpaces) : fmt::format("[{}]", kSpaces);
    } else if (next == 'S') {
      out_ += in_class_ ? "\\P{White_Space}" : fmt::format("[^{}]", kSpaces);
    } else if (next == 'w') {
      out_ += in_class_ ? std::string(kWord)
                        : fmt::format("[{}{}]", kWord, kLatinWord);
    } else if (next == 'W') {
      out_ += fmt::format("[^{}{}]", kWord, kLatinWord);
    } else {
      out_ += pattern_.substr(at_, 2);
    }
    at_ += 2;
  }

  void open_class() {
    in_class_ = true;
    first_ = at_ + 1;
    if (first_ < pattern_.size() && pattern_[first_] == '^') ++first_;
  }

  void class_character() {
    const std::string_view rest = pattern_.substr(at_);
    if (rest.starts_with("&&")) refuse("the intersection &&");
    if (rest.starts_with("[:")) {
      const auto size = std::min(rest.find(":]"), rest.size() - 2) + 2;
      out_ += rest.substr(0, size);
      at_ += size;
      return;
    }
    if (rest[0] == '[') refuse("a class within a class");
    if (rest[0] == ']' && at_ != first_) in_class_ = false;
    out_ += rest[0];
    ++at_;
  }

  std::string_view pattern_;
  std::size_t at_ = 0;
  std::size_t first_ = 0;  // where a "]" would be a member of the class
  bool in_class_ = false;
  std::string out_;
};

// What one thread needs to match anything: one pair of offsets and a stack.
struct Matcher {
  pcre2_match_data* data = pcre2_match_data_create(1, nullptr);
  pcre2_match_context* context = pcre2_match_context_create(nullptr);
  pcre2_jit_stack* stack =
      pcre2_jit_stack_create(32 * 1024, kJitStackBytes, nullptr);

  Matcher() {
    pcre2_jit_stack_assign(context, nullptr, stack);
    pcre2_set_match_limit(context, kMatchLimit);
  }
  ~Matcher() {
    pcre2_jit_stack_free(stack);
    pcre2_match_context_free(context);
    pcre2_match_data_free(data);
  }
  Matcher(const Matcher&) = delete;
  Matcher& operator=(const Matcher&) = delete;
};

}  // namespace

Regex::Regex(std::string_view pattern)
    : Regex(pattern, Translation(pattern).run()) {}

Regex Regex::literal(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    if (std::ispunct(static_cast<unsigned char>(c))) escaped += '\\';
    escaped += c;
  }
  return Regex(text, escaped);
}

Regex::Regex(std::string_view shown, const std::string& translated) {
  auto compiled = std::make_unique<Compiled>();
  compiled->shown = shown;
  int error = 0;
  PCRE2_SIZE offset = 0;
  compiled->code =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()),
                    translated.size(), kOptions, &error, &offset, nullptr);
  if (compiled->code == nullptr) {
    fail(ErrorKind::kData, "pattern {:?}: {} at offset {}", shown,
         reason(error), offset);
  }
  // Without the compiler (hardened kernels) matching is slower but the same.
  pcre2_jit_compile(compiled->code, PCRE2_JIT_COMPLETE);
  pcre2_pattern_info(compiled->code, PCRE2_INFO_FIRSTBITMAP,
                     &compiled->first_bytes);
  compiled_ = std::move(compiled);
}

Regex::~Regex() = default;
Regex::Regex(Regex&&) noexcept = default;
Regex& Regex::operator=(Regex&&) noexcept = default;

void Regex::find_all(std::string_view text, std::vector<Span>& matches) const {
  if (text.empty() || !compiled_->may_begin_in(text)) return;
  thread_local const Matcher matcher;
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  std::size_t from = 0, last_end = std::string_view::npos;
  while (from <= text.size()) {
    const int code =
        pcre2_match(compiled_->code, subject, text.size(), from,
                    PCRE2_NO_UTF_CHECK, matcher.data, matcher.context);
    if (code == PCRE2_ERROR_NOMATCH) return;
    if (code < 0) {
      fail(ErrorKind::kData, "pattern {:?} on {} bytes of text: {}",
           compiled_->shown, text.size(), reason(code));
    }
    const PCRE2_SIZE* offsets = pcre2_get_ovector_pointer(matcher.data);
    const Span match{offsets[0], offsets[1]};
    if (match.begin > match.end || match.begin < from) {
      fail(ErrorKind::kData, "pattern {:?}: \\K is not supported",
           compiled_->shown);
    }
    if (match.begin == match.end && match.end == last_end) {
      from = last_end < text.size()
                 ? last_end + code_point(text, last_end).bytes
                 : text.size() + 1;
      continue;
    }
    matches.push_back(match);
    from = last_end = match.end;
  }
}

}  // namespace catena::data
