#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "training/data/utf8.h"

namespace catena::data {

/// A compiled Unicode pattern, read as the Hugging Face library reads it
/// (Oniguruma, Ruby syntax): `$` and `^` match at every line, `\s` is Unicode
/// White_Space, \p{..} and \w know all scripts.
/// Thread rule: const after construction, any number of threads.
class Regex {
 public:
  /// Throws: Error(kData) with the pattern, the offset in it and the reason;
  /// constructs whose meaning differs ("&&" in a class, \h) are refused.
  explicit Regex(std::string_view pattern);
  /// A pattern that matches `text` itself, which must not be empty.
  static Regex literal(std::string_view text);
  ~Regex();
  Regex(Regex&&) noexcept;
  Regex& operator=(Regex&&) noexcept;

  /// Appends all matches in `text`, which is valid UTF-8 and seen alone: look
  /// behind and look ahead end at its ends. An empty match directly behind a
  /// match is passed over.
  /// Throws: Error(kData) if the pattern needs too many steps.
  void find_all(std::string_view text, std::vector<Span>& matches) const;

 private:
  struct Compiled;
  Regex(std::string_view shown, const std::string& translated);

  std::unique_ptr<const Compiled> compiled_;
};

}  // namespace catena::data
