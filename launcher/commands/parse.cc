#include "launcher/commands/parse.h"

#include <fmt/format.h>

#include <cstdio>

#include "launcher/contract.h"

namespace catena::launcher {

std::optional<int> parse_command(CLI::App& app,
                                 const std::vector<std::string>& arguments) {
  try {
    // CLI11 takes the arguments last first.
    app.parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));
  } catch (const CLI::Success& asked) {
    return app.exit(asked);
  } catch (const CLI::ParseError& problem) {
    fmt::print(stderr, "catena: {}; see `{} --help`\n", problem.what(),
               app.get_name());
    return kExitUsage;
  }
  return std::nullopt;
}

void add_run(CLI::App& app, std::string& run) {
  app.add_option("run", run,
                 "Folder of a run; without it, the newest one under runs/");
}

}  // namespace catena::launcher
