#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "runtime/base/config.h"

/// What stands behind config::Schema; private to runtime/base.
namespace catena::config {

/// Longer names are not compared with the known ones: the comparison takes
/// time and memory in proportion to the length.
inline constexpr std::size_t kLongestGuess = 200;

/// One key with the variable it fills. The order of the alternatives is that
/// of Type. Limits are those of the variable's own type.
struct Field {
  using Target = std::variant<std::int64_t*, double*, bool*, std::string*,
                              std::vector<std::string>*>;
  Key key;
  Target target;
  std::int64_t minimum_integer = 0, maximum_integer = 0;
  double minimum_number = 0, maximum_number = 0;
  bool given = false;  ///< some source has set it
};

struct Section {
  std::string path, help;
};

/// Every key, section and problem, in order of declaration or discovery.
struct Table {
  std::vector<Field> fields;
  std::vector<Section> sections;
  std::map<std::string, std::size_t, std::less<>> positions;  ///< of fields
  std::vector<std::string> problems;

  [[nodiscard]] Field* find(std::string_view path);
  [[nodiscard]] const Field* find(std::string_view path) const;
  [[nodiscard]] bool has_section(std::string_view path) const;
  /// See Schema::nearest.
  [[nodiscard]] std::string nearest(std::string_view path) const;
  [[nodiscard]] std::string nearest_section(std::string_view path) const;
};

/// "model.chain.top_k" -> {"model.chain", "top_k"}; "seed" -> {"", "seed"}.
[[nodiscard]] std::pair<std::string_view, std::string_view> split_path(
    std::string_view path);

/// "unknown key model.chian.top_k; did you mean model.chain.top_k?"
[[nodiscard]] std::string unknown_key(const Table& table,
                                      std::string_view path);

// config_read.cc -----------------------------------------------------------

/// Reads a TOML document, or one section of it, into the fields; problems go
/// into the table.
void read_document(Table& table, std::string_view text, const std::string& name,
                   std::string_view section);

/// Reads one value written as TOML or, where `bare` allows it and the key
/// holds text, as plain text.
void read_value(Table& table, Field& field, std::string_view text, bool bare,
                const std::string& origin);

/// The text can stand in a TOML comment: valid UTF-8, no control characters.
[[nodiscard]] bool valid_comment(std::string_view text);

// config_print.cc ----------------------------------------------------------

/// A basic TOML string, quoted and escaped.
[[nodiscard]] std::string toml_quoted(std::string_view text);
/// The field's present value as TOML.
[[nodiscard]] std::string value_text(const Field& field);
/// "1 to 65536", ">= 0", "<= 1" or "" for no limit at all.
[[nodiscard]] std::string range_text(std::int64_t minimum,
                                     std::int64_t maximum);
[[nodiscard]] std::string range_text(double minimum, double maximum);
[[nodiscard]] std::string type_text(Type type);

[[nodiscard]] std::string print_explanation(const Table& table,
                                            std::string_view path);
[[nodiscard]] std::string print_markdown(const Table& table);
[[nodiscard]] std::string print_toml(const Table& table, bool commented,
                                     bool origins, std::string_view without);

}  // namespace catena::config
