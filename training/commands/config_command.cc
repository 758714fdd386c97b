#include <cstdio>
#include <memory>

#include "launcher/contract.h"
#include "training/commands/commands.h"
#include "training/config.h"

namespace catena {
namespace {

struct Options {
  std::string key, config;
  std::vector<std::string> assignments;
};

void print(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
}

void add_file_command(CLI::App& parent, Action& action, const char* name,
                      const char* help, bool shows) {
  auto options = std::make_shared<Options>();
  CLI::App* command = parent.add_subcommand(name, help);
  command->add_option("config", options->config, "TOML file")->required();
  command->add_option("--set", options->assignments, "KEY=VALUE");
  command->callback([options, shows, &action] {
    action = [options, shows] {
      Config config;
      config::Schema schema;
      describe(schema, config);
      load(schema, config, options->config, options->assignments);
      print(shows ? schema.toml(false, true)
                  : options->config + ": no problems\n");
      return static_cast<int>(kExitSuccess);
    };
  });
}

template <class Text>
CLI::App* add_schema_command(CLI::App& parent, Action& action, const char* name,
                             const char* help, Text text) {
  CLI::App* command = parent.add_subcommand(name, help);
  command->callback([text, &action] {
    action = [text] {
      Config config;
      config::Schema schema;
      describe(schema, config);
      print(text(schema));
      return static_cast<int>(kExitSuccess);
    };
  });
  return command;
}

}  // namespace

void add_config_commands(CLI::App& app, Action& action) {
  CLI::App* parent =
      app.add_subcommand("config", "Explain, check and print configuration");
  parent->require_subcommand(1);
  auto options = std::make_shared<Options>();
  CLI::App* explain = add_schema_command(
      *parent, action, "explain", "What a key, or every key of a section, is",
      [options](config::Schema& s) { return s.explain(options->key); });
  explain->add_option("key", options->key, "Such as model.chain.top_k")
      ->required();
  explain->footer(
      "Examples:\n  catena config explain model.chain.top_k\n"
      "  catena config explain model.router");
  add_file_command(*parent, action, "check", "Check a file", false);
  add_file_command(*parent, action, "show",
                   "Every value, and where it came from", true);
  add_schema_command(*parent, action, "init",
                     "A commented file with every key and its default",
                     [](config::Schema& s) { return s.toml(true, false); });
  add_schema_command(*parent, action, "markdown", "docs/configuration.md",
                     [](config::Schema& s) { return s.markdown(); });
}

}  // namespace catena
