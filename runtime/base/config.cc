#include "runtime/base/config.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "runtime/base/config_table.h"
#include "runtime/base/error.h"
#include "runtime/base/files.h"
#include "runtime/base/nearest.h"

namespace catena::config {
namespace {

bool bare_path(std::string_view path) {
  bool part_empty = true;
  for (const char c : path) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
                        c == '_' || c == '-';
    if (!letter && (c != '.' || part_empty)) return false;
    part_empty = c == '.';
  }
  return !part_empty;
}

void add_field(Table& table, Field field) {
  const std::string& path = field.key.path;
  CATENA_CHECK(bare_path(path), "[config] key \"{}\" is not a plain name",
               path);
  CATENA_CHECK(table.find(path) == nullptr, "[config] key {} added twice",
               path);
  CATENA_CHECK(!table.has_section(path), "[config] {} is a section", path);
  const std::string section(split_path(path).first);
  CATENA_CHECK(table.find(section) == nullptr, "[config] {} lies in a key",
               path);
  const bool known =
      std::any_of(table.sections.begin(), table.sections.end(),
                  [&](const Section& s) { return s.path == section; });
  if (!known) table.sections.push_back({section, ""});
  field.key.default_value = value_text(field);
  table.positions.emplace(path, table.fields.size());
  table.fields.push_back(std::move(field));
}

void check_choice(const std::string& path, const std::string& value,
                  const std::vector<std::string>& choices) {
  CATENA_CHECK(
      choices.empty() ||
          std::find(choices.begin(), choices.end(), value) != choices.end(),
      "[config] default \"{}\" of {} is not among its choices", value, path);
}

Field text_field(std::string path, Type type, Field::Target target,
                 Text about) {
  Field field;
  field.key = {std::move(path),
               type,
               std::move(about.unit),
               "",
               "",
               std::move(about.help),
               std::move(about.choices)};
  field.target = target;
  return field;
}

}  // namespace

struct Schema::Implementation : Table {};

Schema::Schema() : implementation_(std::make_unique<Implementation>()) {}
Schema::~Schema() = default;

void Schema::section(std::string path, std::string help) {
  CATENA_CHECK(path.empty() || bare_path(path),
               "[config] section \"{}\" is not a plain name", path);
  CATENA_CHECK(implementation_->find(path) == nullptr,
               "[config] section {} is a key", path);
  for (Section& known : implementation_->sections) {
    if (known.path == path) {
      known.help = std::move(help);
      return;
    }
  }
  implementation_->sections.push_back({std::move(path), std::move(help)});
}

void Schema::add(std::string path, std::int64_t& value, Integer about) {
  CATENA_CHECK(value >= about.minimum && value <= about.maximum,
               "[config] default {} of {} is out of its range", value, path);
  Field field;
  field.key = {std::move(path),
               Type::kInteger,
               std::move(about.unit),
               range_text(about.minimum, about.maximum),
               "",
               std::move(about.help),
               {}};
  field.target = &value;
  field.minimum_integer = about.minimum;
  field.maximum_integer = about.maximum;
  add_field(*implementation_, std::move(field));
}

void Schema::add(std::string path, double& value, Number about) {
  CATENA_CHECK(
      std::isfinite(value) && value >= about.minimum && value <= about.maximum,
      "[config] default {} of {} is out of its range", value, path);
  Field field;
  field.key = {std::move(path),
               Type::kNumber,
               std::move(about.unit),
               range_text(about.minimum, about.maximum),
               "",
               std::move(about.help),
               {}};
  field.target = &value;
  field.minimum_number = about.minimum;
  field.maximum_number = about.maximum;
  add_field(*implementation_, std::move(field));
}

void Schema::add(std::string path, bool& value, Switch about) {
  Field field;
  field.key = {
      std::move(path), Type::kSwitch, "", "", "", std::move(about.help), {}};
  field.target = &value;
  add_field(*implementation_, std::move(field));
}

void Schema::add(std::string path, std::string& value, Text about) {
  check_choice(path, value, about.choices);
  add_field(*implementation_,
            text_field(std::move(path), Type::kText, &value, std::move(about)));
}

void Schema::add(std::string path, std::vector<std::string>& value,
                 Text about) {
  for (const auto& text : value) check_choice(path, text, about.choices);
  add_field(*implementation_, text_field(std::move(path), Type::kTexts, &value,
                                         std::move(about)));
}

void Schema::read_file(const std::filesystem::path& path,
                       std::string_view section) {
  std::string text;
  try {
    text = catena::read_file(path);
  } catch (const Error& problem) {
    fail(ErrorKind::kConfig, "{}; give the path of a TOML file",
         problem.what());
  }
  read_text(text, path.string(), section);
}

void Schema::read_text(std::string_view text, const std::string& name,
                       std::string_view section) {
  read_document(*implementation_, text, name, section);
}

void Schema::set(std::string_view assignment, const std::string& origin) {
  Table& table = *implementation_;
  const auto equals = assignment.find('=');
  std::string_view path = assignment.substr(0, equals);
  while (!path.empty() && path.back() == ' ') path.remove_suffix(1);
  while (!path.empty() && path.front() == ' ') path.remove_prefix(1);
  if (equals == std::string_view::npos || path.empty()) {
    table.problems.push_back(
        fmt::format("{}: expected KEY=VALUE, such as train.steps=200, not {}",
                    origin, toml_quoted(assignment)));
    return;
  }
  Field* field = table.find(path);
  if (field == nullptr) {
    table.problems.push_back(
        fmt::format("{}: {}", origin, unknown_key(table, path)));
    return;
  }
  read_value(table, *field, assignment.substr(equals + 1), true, origin);
}

void Schema::append(std::string_view path, std::string text,
                    const std::string& origin) {
  Field* field = implementation_->find(path);
  CATENA_CHECK(field != nullptr && field->key.type == Type::kTexts &&
                   field->key.choices.empty(),
               "[config] {} is no list of any texts", path);
  std::get<std::vector<std::string>*>(field->target)
      ->push_back(std::move(text));
  field->given = true;
  field->key.origin = origin;
}

void Schema::set_value(std::string_view path, std::string_view value,
                       const std::string& origin) {
  Table& table = *implementation_;
  Field* field = table.find(path);
  if (field == nullptr) {
    table.problems.push_back(
        fmt::format("{}: {}", origin, unknown_key(table, path)));
    return;
  }
  read_value(table, *field, value, false, origin);
}

void Schema::problem(const std::string& path, std::string message) {
  const Field* field = implementation_->find(path);
  std::string& line = implementation_->problems.emplace_back();
  if (field == nullptr) {
    line = path.empty() ? message : fmt::format("{}: {}", path, message);
  } else if (field->given) {
    line = fmt::format("{}: {}: {}", field->key.origin, path, message);
  } else {
    line = fmt::format("{} (default {}): {}", path, field->key.default_value,
                       message);
  }
}

void Schema::finish() {
  if (implementation_->problems.empty()) return;
  throw Error(ErrorKind::kConfig,
              fmt::format("{}", fmt::join(implementation_->problems, "\n")));
}

bool Schema::was_set(std::string_view path) const {
  const Field* field = implementation_->find(path);
  CATENA_CHECK(field != nullptr, "[config] no key {}", path);
  return field->given;
}

const Key* Schema::find(std::string_view path) const {
  const Field* field = implementation_->find(path);
  return field == nullptr ? nullptr : &field->key;
}

std::string Schema::nearest(std::string_view path) const {
  return implementation_->nearest(path);
}

std::vector<Key> Schema::keys() const {
  std::vector<Key> result;
  result.reserve(implementation_->fields.size());
  for (const Field& field : implementation_->fields) {
    result.push_back(field.key);
    result.back().value = value_text(field);
  }
  return result;
}

std::string Schema::explain(std::string_view path) const {
  return print_explanation(*implementation_, path);
}

std::string Schema::markdown() const {
  return print_markdown(*implementation_);
}

std::string Schema::toml(bool commented, bool origins,
                         std::string_view without) const {
  return print_toml(*implementation_, commented, origins, without);
}

}  // namespace catena::config
