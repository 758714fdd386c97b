#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace catena::config {

/// What may be said about a key besides its path, type and default. `help` is
/// one or two plain sentences; `unit` is a word such as "tokens" or "".
struct Integer {
  std::int64_t minimum, maximum;
  std::string unit, help;
};
struct Number {
  double minimum, maximum;
  std::string unit, help;
};
struct Switch {
  std::string help;
};
struct Text {
  std::vector<std::string> choices;  ///< empty: any text
  std::string unit, help;
};

enum class Type { kInteger, kNumber, kSwitch, kText, kTexts };

/// One key of the configuration, as every output shows it.
struct Key {
  std::string path;  ///< "model.chain.top_k"
  Type type;
  std::string unit, range, default_value, help;
  std::vector<std::string> choices;
  std::string origin = "default";  ///< "FILE:LINE:COLUMN", "--set", "default"
  std::string value = {};          ///< at present, as TOML
};

/// The one description of every key: it fills the fields it was bound to from
/// TOML and from `--set`, and prints help, documentation and the resolved
/// configuration.
///
///   struct Train { std::int64_t steps = 1000; };
///   Train train;
///   Schema schema;
///   schema.section("train", "The training loop.");
///   schema.add("train.steps", train.steps, Integer{1, 1000000, "steps",
///   "..."}); schema.read_file("quickstart.toml");
///   schema.set("train.steps=200", "--set");
///   schema.finish();  // throws once, with every problem, one a line
///
/// Defaults are the fields' values when add() is called. Later sources win.
/// Ownership: fields are borrowed and must outlive the schema.
class Schema {
 public:
  Schema();
  ~Schema();
  Schema(const Schema&) = delete;
  Schema& operator=(const Schema&) = delete;

  void section(std::string path, std::string help);
  void add(std::string path, std::int64_t& field, Integer about);
  void add(std::string path, double& field, Number about);
  void add(std::string path, bool& field, Switch about);
  void add(std::string path, std::string& field, Text about);
  void add(std::string path, std::vector<std::string>& field, Text about);

  /// Reads TOML. An integer may stand for a number and a single text for a
  /// list of texts; numbers must be finite. Unknown keys, wrong types, values
  /// out of range and syntax errors are kept for finish(), each with
  /// FILE:LINE:COLUMN and, for an unknown key, the nearest known one. Throws:
  /// Error(kConfig) at once only if the file cannot be read. With `section`,
  /// all that is not in this one is somebody else's and passed over.
  void read_file(const std::filesystem::path& path,
                 std::string_view section = "");
  void read_text(std::string_view text, const std::string& name,
                 std::string_view section = "");

  /// "path=value", the value as TOML or, if the key holds text, bare text:
  /// train.steps=200, data.train=a.jsonl, data.train=["a", "b"]. Nothing after
  /// the sign is an empty text or an empty list. `origin`, such as "--set",
  /// stands before its problems.
  void set(std::string_view assignment, const std::string& origin);

  /// Adds to a list of any texts one that need not be UTF-8.
  void append(std::string_view path, std::string text,
              const std::string& origin);

  /// Sets a key from code as though a file had said it (config.json import).
  /// `value` is TOML text.
  void set_value(std::string_view path, std::string_view value,
                 const std::string& origin);

  /// Notes a problem found by a check across keys; finish() reports it with
  /// the origin of `path`.
  void problem(const std::string& path, std::string message);

  /// A value that was refused leaves its field as it was; so call finish()
  /// once before the checks across keys and once after them.
  /// Throws: Error(kConfig) with all problems so far, one a line.
  void finish();

  [[nodiscard]] bool was_set(std::string_view path) const;
  [[nodiscard]] const Key* find(std::string_view path) const;
  [[nodiscard]] std::string nearest(std::string_view path) const;
  [[nodiscard]] std::vector<Key> keys() const;

  /// Several lines about one key, or about every key of a section and of the
  /// sections within it; "" is everything.
  /// Throws: Error(kUsage) with the nearest name if there is no such key.
  [[nodiscard]] std::string explain(std::string_view path) const;
  /// docs/configuration.md.
  [[nodiscard]] std::string markdown() const;
  /// The current values as TOML, sections in order of declaration, that
  /// read_text() reads back to the same values. With `commented`, every key
  /// has its help, unit and default above it; with `origins`, a trailing
  /// comment saying where the value came from. Nothing of the section
  /// `without`.
  [[nodiscard]] std::string toml(bool commented, bool origins,
                                 std::string_view without = "") const;

 private:
  struct Implementation;
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace catena::config
