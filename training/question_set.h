#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace catena {

/// A question whose answer is a number.
struct Question {
  std::string text;
  std::string answer;  ///< canonical_number() of the reference's last number
};

/// The last number in a text, without thousands separators, leading zeros and
/// needless decimals ("1,200.50" -> "1200.5", ".5" -> "0.5", "-0" -> "0");
/// empty if there is none. What GSM8K's exact match compares.
[[nodiscard]] std::string last_number(std::string_view text);

/// Reads questions, one JSON object a line: {"question", "answer"} as GSM8K
/// has them, or {"query", "response"}; .zst of it too. The answer is the last
/// number of the text behind "####", or of the whole where there is none.
/// Throws: Error(kData), "FILE:LINE: ...", for malformed lines and answers
/// without a number.
[[nodiscard]] std::vector<Question> read_questions(
    const std::filesystem::path& path);

}  // namespace catena
