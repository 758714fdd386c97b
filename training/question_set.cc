#include "training/question_set.h"

#include <cctype>
#include <nlohmann/json.hpp>

#include "runtime/base/error.h"
#include "training/data/corpus.h"
#include "training/data/json_node.h"

namespace catena {
namespace {

bool is_digit(char c) { return std::isdigit(static_cast<unsigned char>(c)); }

/// Whether a point behind this begins a number, rather than ends a sentence.
bool begins_number(std::string_view before) {
  constexpr std::string_view kOpening = " \t\r\n-+=$([{*/:";
  return before.empty() || kOpening.find(before.back()) != kOpening.npos;
}

/// Digits, commas between digits, and one point followed by digits.
std::string canonical(std::string_view number, bool negative) {
  std::string whole, fraction;
  bool behind_point = false;
  for (const char c : number) {
    if (c == '.') {
      behind_point = true;
    } else if (c != ',') {
      (behind_point ? fraction : whole) += c;
    }
  }
  whole.erase(0, std::min(whole.find_first_not_of('0'), whole.size()));
  if (whole.empty()) whole = "0";
  while (!fraction.empty() && fraction.back() == '0') fraction.pop_back();
  const bool zero = whole == "0" && fraction.empty();
  return fmt::format("{}{}{}{}", negative && !zero ? "-" : "", whole,
                     fraction.empty() ? "" : ".", fraction);
}

Question parse(const data::JsonNode& row) {
  row.require_object();
  const bool gsm = !row.member("question").is_null();
  const std::string& answer = row.member(gsm ? "answer" : "response").text();
  const auto mark = answer.rfind("####");
  Question question{row.member(gsm ? "question" : "query").text(),
                    last_number(mark == std::string::npos
                                    ? std::string_view(answer)
                                    : std::string_view(answer).substr(mark))};
  if (question.answer.empty()) {
    row.member(gsm ? "answer" : "response").refuse("holds no number");
  }
  return question;
}

}  // namespace

std::string last_number(std::string_view text) {
  std::size_t end = text.size();
  while (end > 0 && !is_digit(text[end - 1])) --end;
  if (end == 0) return "";
  std::size_t begin = end;
  bool point = false;
  while (begin > 0) {
    const char c = text[begin - 1];
    const bool inside = begin >= 2 && is_digit(text[begin - 2]);
    if (is_digit(c) || (c == ',' && inside)) {
      --begin;
    } else if (c == '.' && !point &&
               (inside || begins_number(text.substr(0, begin - 1)))) {
      point = true;
      --begin;
    } else {
      break;
    }
  }
  const bool negative = begin > 0 && text[begin - 1] == '-' &&
                        (begin == 1 || !is_digit(text[begin - 2]));
  return canonical(text.substr(begin, end - begin), negative);
}

std::vector<Question> read_questions(const std::filesystem::path& path) {
  std::vector<Question> questions;
  data::CorpusReader reader({path});
  data::RawRow row;
  while (reader.next(row)) {
    const std::string place = fmt::format("{}:{}", row.file, row.line);
    if (!row.json) {
      fail(ErrorKind::kData,
           "{}: questions are JSON Lines, {{\"question\", \"answer\"}}",
           path.string());
    }
    const nlohmann::json json = data::parse_json(row.bytes, place);
    questions.push_back(parse(data::JsonNode(json, place, "")));
  }
  if (questions.empty()) {
    fail(ErrorKind::kData, "{}: holds no questions", path.string());
  }
  return questions;
}

}  // namespace catena
