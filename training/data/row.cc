#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "runtime/base/error.h"
#include "training/data/corpus.h"
#include "training/data/utf8.h"

namespace catena::data {
namespace {

constexpr std::size_t kMessagesKept = 5;

[[noreturn]] void fail_at(const RawRow& row, std::size_t offset,
                          const std::string& what) {
  const std::string_view before = std::string_view(row.bytes).substr(0, offset);
  const auto newline = before.rfind('\n');
  const auto lines = std::count(before.begin(), before.end(), '\n');
  const std::int64_t column =
      newline == std::string_view::npos
          ? row.column + static_cast<std::int64_t>(offset)
          : static_cast<std::int64_t>(offset - newline);
  fail(ErrorKind::kData, "{}:{}:{}: {}", row.file, row.line + lines, column,
       what);
}

nlohmann::json parse_object(const RawRow& row) {
  nlohmann::json value;
  try {
    value = nlohmann::json::parse(row.bytes);
  } catch (const nlohmann::json::exception& error) {
    const auto* syntax =
        dynamic_cast<const nlohmann::json::parse_error*>(&error);
    const std::size_t offset =
        syntax == nullptr || syntax->byte == 0 ? 0 : syntax->byte - 1;
    // The library's text is "[id] parse error at line L, column C: reason".
    std::string_view what = error.what();
    const auto reason = what.find(": ");
    if (reason != std::string_view::npos) what.remove_prefix(reason + 2);
    fail_at(row, std::min(offset, row.bytes.size()),
            fmt::format("not valid JSON: {}", what));
  }
  if (!value.is_object()) {
    fail_at(row, 0,
            fmt::format("the row is a JSON {}, expected an object such as "
                        R"({{"query": "...", "response": "..."}})",
                        value.type_name()));
  }
  return value;
}

const std::string* field(const RawRow& row, const nlohmann::json& object,
                         const char* key) {
  const auto found = object.find(key);
  if (found == object.end()) return nullptr;
  if (!found->is_string()) {
    fail_at(row, 0,
            fmt::format("\"{}\" is {}, expected a string", key,
                        found->type_name()));
  }
  return &found->get_ref<const std::string&>();
}

}  // namespace

RowTemplate::RowTemplate(std::string_view pattern) {
  constexpr std::string_view kQuery = "{query}", kResponse = "{response}";
  const auto query = pattern.find(kQuery);
  const auto response = pattern.find(kResponse);
  const bool once =
      query != std::string_view::npos && response != std::string_view::npos &&
      pattern.rfind(kQuery) == query && pattern.rfind(kResponse) == response;
  if (!once || response < query ||
      invalid_utf8(pattern) != std::string_view::npos) {
    fail(ErrorKind::kUsage,
         "row template {:?}: must be UTF-8 and hold {{query}} and, behind it, "
         "{{response}}, once each",
         pattern);
  }
  before_ = pattern.substr(0, query);
  const auto middle = query + kQuery.size();
  between_ = pattern.substr(middle, response - middle);
  after_ = pattern.substr(response + kResponse.size());
}

std::string RowTemplate::pattern() const {
  return before_ + "{query}" + between_ + "{response}" + after_;
}

std::string RowTemplate::prompt(std::string_view query) const {
  std::string text = before_;
  text += strip(query);
  return text + between_;
}

Document RowTemplate::join(std::string_view query,
                           std::string_view response) const {
  Document document{prompt(query), 0};
  document.response_begin = document.text.size();
  document.text += strip(response);
  document.text += after_;
  return document;
}

Document parse_row(const RawRow& row, const RowTemplate& row_template) {
  const std::size_t invalid = invalid_utf8(row.bytes);
  if (invalid != std::string_view::npos) {
    fail_at(row, invalid,
            fmt::format("byte 0x{:02X} is not valid UTF-8",
                        static_cast<unsigned char>(row.bytes[invalid])));
  }
  if (!row.json) return {row.bytes, 0};
  const nlohmann::json object = parse_object(row);
  const std::string* query = field(row, object, "query");
  const std::string* response = field(row, object, "response");
  if (query != nullptr && response != nullptr) {
    return row_template.join(*query, *response);
  }
  if (query != nullptr || response != nullptr) {
    const bool has_query = query != nullptr;
    fail_at(row, 0,
            fmt::format("the row has \"{}\" but no \"{}\"",
                        has_query ? "query" : "response",
                        has_query ? "response" : "query"));
  }
  const std::string* text = field(row, object, "text");
  if (text == nullptr) {
    fail_at(row, 0,
            "the row has neither \"query\" and \"response\" nor \"text\"");
  }
  return {*text, 0};
}

void BadRows::add(std::string message) {
  ++count;
  if (messages.size() < kMessagesKept) messages.push_back(std::move(message));
}

void BadRows::add(const BadRows& later) {
  count += later.count;
  for (const std::string& message : later.messages) {
    if (messages.size() < kMessagesKept) messages.push_back(message);
  }
}

std::vector<Document> parse_rows(const std::vector<RawRow>& rows,
                                 const RowTemplate& row_template,
                                 BadRows* bad) {
  std::vector<Document> documents;
  documents.reserve(rows.size());
  for (std::size_t i = 0; i < rows.size(); ++i) {
    try {
      documents.push_back(parse_row(rows[i], row_template));
      documents.back().row = i;
    } catch (const Error& error) {
      if (bad == nullptr) throw;
      bad->add(error.what());
    }
  }
  return documents;
}

}  // namespace catena::data
