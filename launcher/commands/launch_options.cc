#include "launcher/commands/launch_options.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cctype>
#include <cstdlib>

#include "launcher/commands/parse.h"

namespace catena::launcher {
namespace {

using config::Key;
using config::Type;

constexpr const char* kRanks = "launch.ranks";
constexpr const char* kEnvironment = "launch.env";
constexpr const char* kSet = "set";

/// Say the same thing in different ways: of those of one source at most one.
const std::array<std::vector<const char*>, 2> kRivals = {
    {{"launch.hosts", "launch.hostfile", "launch.agents"},
     {kRanks, "launch.nproc_per_node"}}};

constexpr const char* kFooter =
    "Of flag, --set, variable (in brackets), the file's [launch] and default "
    "the first that says something wins.\n"
    "Examples:\n"
    "  catena launch -n 4 configs/quickstart.toml\n"
    "  catena launch -n 4 configs/quickstart.toml --resume --max-restarts 10\n"
    "  catena launch -n 4 configs/quickstart.toml --dry-run --json\n"
    "  catena launch -n 16 --hosts node1,me@node2 configs/quickstart.toml\n"
    "  catena launch --hostfile hosts --nnodes 3:4 --nproc-per-node 8 "
    "configs/coe-2-4-64.toml\n"
    "  salloc -N 2 --ntasks-per-node 8 catena launch configs/quickstart.toml\n"
    "Ctrl-C saves a checkpoint and ends (75); a second one ends at once.";

std::string_view name_of(std::string_view path) {
  return path.substr(path.rfind('.') + 1);
}

std::string in_capitals(std::string_view text) {
  std::string capitals(text);
  for (char& c : capitals) {
    c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  }
  return capitals;
}

std::string_view variable_name(std::string_view assignment) {
  return assignment.substr(0, assignment.find('='));
}

std::string negated(const std::string& flag) {
  return "--no-" + flag.substr(2);
}

/// NAME becomes NAME=VALUE.
std::string with_value(const std::string& text, const std::string& origin,
                       ErrorKind kind) {
  const std::string name(variable_name(text));
  if (name.size() < text.size()) return text;
  const char* value = std::getenv(name.c_str());
  if (value == nullptr) {
    fail(kind, "{}: {} is not set here", origin, name);
  }
  return name + "=" + value;
}

/// The words that flags and variables may use besides true and false.
std::string switch_text(const std::string& text) {
  try {
    return CLI::detail::to_flag_value(text) > 0 ? "true" : "false";
  } catch (const std::logic_error&) {
    return text;
  }
}

/// Where 0 says nothing; a flag that says nothing is a slip.
bool is_count(const Key& key) {
  return key.path == kRanks || key.path == "launch.agents";
}

std::string not_zero(const std::string& text) {
  return text == "0" ? "0: leave it out, or say how many" : "";
}

std::string type_of(const Key& key) {
  if (!key.choices.empty()) {
    return fmt::format("{}", fmt::join(key.choices, "|"));
  }
  const bool text_or_texts =
      key.type == Type::kText || key.type == Type::kTexts;
  std::string text = text_or_texts ? "TEXT" : "NUMBER";
  if (!key.unit.empty()) text = in_capitals(key.unit);
  if (!key.range.empty() && !is_count(key)) {
    text += fmt::format(" in [{}]", key.range);
  }
  return text;
}

CLI::Option* add_option(CLI::App& app, const Key& key) {
  const std::string flag = flag_of(key.path);
  const std::string help =
      fmt::format("{} [{}]", key.help, variable_of(key.path));
  if (key.type == Type::kSwitch) {
    return app.add_flag(fmt::format("{},!{}", flag, negated(flag)), help);
  }
  CLI::Option* option =
      app.add_option(key.path == kRanks ? "-n," + flag : flag, help);
  option->type_name(type_of(key));
  if (key.type == Type::kTexts) {
    return option->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
        ->expected(1, CLI::detail::expected_max_vector_size)
        ->allow_extra_args(false);
  }
  if (is_count(key)) return option->check(not_zero);
  const bool text = key.type == Type::kText;
  return option->default_str(
      text ? key.default_value.substr(1, key.default_value.size() - 2)
           : key.default_value);
}

bool is_word(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-';
}

bool names(std::string_view text, std::string_view flag) {
  for (auto at = text.find(flag); at != std::string_view::npos;
       at = text.find(flag, at + 1)) {
    const auto end = at + flag.size();
    if ((at == 0 || !is_word(text[at - 1])) &&
        (end == text.size() || !is_word(text[end]))) {
      return true;
    }
  }
  return false;
}

}  // namespace

std::string flag_of(std::string_view path) {
  std::string flag = fmt::format("--{}", name_of(path));
  std::replace(flag.begin(), flag.end(), '_', '-');
  return flag;
}

std::string variable_of(std::string_view path) {
  return "CATENA_" + in_capitals(name_of(path));
}

LaunchOptions::LaunchOptions() {
  schema_.add(kSet, set_,
              config::Text{{},
                           "",
                           "KEY=VALUE, over what the file says; "
                           "repeatable."});
  describe(schema_, launch);
  schema_.add("dry_run", dry_run,
              config::Switch{"Print which ranks would run where, what memory "
                             "they need, and whether this machine has it."});
  schema_.add("json", json,
              config::Switch{"With --dry-run: as one JSON object."});
}

std::optional<int> LaunchOptions::read(
    const std::vector<std::string>& arguments) {
  Said said;
  if (const auto code = parse(arguments, said)) return code;
  take(ErrorKind::kConfig,
       [this] { schema_.read_file(config_file, LaunchConfig::kSection); });
  take_variables();
  const auto is_set = [](const auto& one) { return one.first == kSet; };
  const auto others = std::stable_partition(said.begin(), said.end(), is_set);
  take_flags({said.begin(), others});
  take_assignments();
  take_flags({others, said.end()});
  launch.env = environment_;
  return std::nullopt;
}

std::optional<int> LaunchOptions::parse(
    const std::vector<std::string>& arguments, Said& said) {
  CLI::App app("Trains by several ranks: starts, watches and restarts them.",
               "catena launch");
  app.footer(kFooter);
  app.add_option("config", config_file,
                 "TOML file; `catena config markdown` lists every key")
      ->required();
  std::vector<std::pair<std::string, CLI::Option*>> options;
  for (const Key& key : schema_.keys()) {
    options.emplace_back(key.path, add_option(app, key));
  }
  if (const auto code = parse_command(app, arguments)) return code;
  for (const auto& [path, option] : options) {
    for (const std::string& text : option->results()) {
      said.emplace_back(path, text);
    }
  }
  return std::nullopt;
}

std::string LaunchOptions::origin(std::string_view path) const {
  return schema_.find(path)->origin;
}

std::string LaunchOptions::with_origins(const std::string& message) const {
  std::string text;
  for (const Key& key : schema_.keys()) {
    const std::string flag = flag_of(key.path);
    const bool named = names(message, flag) || names(message, negated(flag)) ||
                       (key.path == kRanks && names(message, "-n"));
    if (!named || key.origin == flag || key.origin == "default") continue;
    text +=
        fmt::format("{}{}: {}", text.empty() ? " (" : ", ", flag, key.origin);
  }
  return message + text + (text.empty() ? "" : ")");
}

LaunchOptions::Origins LaunchOptions::origins() const {
  Origins all;
  for (Key& key : schema_.keys()) all[key.path] = std::move(key.origin);
  return all;
}

/// One source: what it says, checked, and over what those before it said.
void LaunchOptions::take(ErrorKind kind, const std::function<void()>& apply) {
  const Origins before = origins();
  apply();
  try {
    schema_.finish();
    check(schema_, launch);
    schema_.finish();
  } catch (const Error& error) {
    throw Error(kind, error.what());
  }
  settle_rivals(kind, before);
  gather(kind);
}

void LaunchOptions::set(const std::string& path, const std::string& text,
                        const std::string& origin) {
  const bool is_switch = schema_.find(path)->type == Type::kSwitch;
  schema_.set(fmt::format("{}={}", path, is_switch ? switch_text(text) : text),
              origin);
}

void LaunchOptions::take_variables() {
  take(ErrorKind::kUsage, [this] {
    for (const Key& key : schema_.keys()) {
      const std::string variable = variable_of(key.path);
      const char* text = std::getenv(variable.c_str());
      if (text != nullptr && *text != '\0') set(key.path, text, variable);
    }
  });
}

void LaunchOptions::take_flags(const Said& said) {
  take(ErrorKind::kUsage, [&] {
    for (const auto& [path, text] : said) {
      // Byte for byte: what ranks are told need not be UTF-8.
      if (schema_.find(path)->type == Type::kTexts) {
        schema_.append(path, text, flag_of(path));
      } else {
        set(path, text, flag_of(path));
      }
    }
  });
}

/// Parts those of [launch] from those for the trainer.
void LaunchOptions::take_assignments() {
  const std::string section = fmt::format("{}.", LaunchConfig::kSection);
  take(ErrorKind::kConfig, [&] {
    for (const std::string& text : all_set_) {
      const auto begin = std::min(text.find_first_not_of(' '), text.size());
      if (text.compare(begin, section.size(), section) == 0) {
        schema_.set(text, flag_of(kSet));
      } else {
        assignments.push_back(text);
      }
    }
  });
}

void LaunchOptions::settle_rivals(ErrorKind kind, const Origins& before) {
  for (const auto& rivals : kRivals) {
    std::vector<std::string> said;
    for (const char* path : rivals) {
      if (origin(path) != before.find(path)->second) {
        said.push_back(flag_of(path));
      }
    }
    if (said.empty()) continue;
    if (said.size() > 1) {
      throw Error(kind, with_origins(fmt::format("{} and {}: say one of them",
                                                 said[0], said[1])));
    }
    for (const char* path : rivals) {
      if (flag_of(path) == said[0]) continue;
      schema_.set_value(path, schema_.find(path)->default_value, "default");
    }
  }
}

/// Takes lists out of the schema, where the next source would replace them.
void LaunchOptions::gather(ErrorKind kind) {
  all_set_.insert(all_set_.end(), set_.begin(), set_.end());
  set_.clear();
  for (const std::string& text : launch.env) {
    std::erase_if(environment_, [&](const std::string& own) {
      return variable_name(own) == variable_name(text);
    });
    environment_.push_back(with_value(text, origin(kEnvironment), kind));
  }
  launch.env.clear();
}

}  // namespace catena::launcher
