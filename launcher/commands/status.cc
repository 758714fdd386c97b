#include <cstdio>

#include "launcher/commands/look.h"
#include "launcher/commands/parse.h"
#include "launcher/contract.h"
#include "launcher/run_status.h"

namespace catena::launcher {

int status(const std::vector<std::string>& arguments) {
  CLI::App app("Says how a run stands: its state, and each rank's.",
               "catena status");
  std::string run;
  bool json = false;
  add_run(app, run);
  app.add_flag("--json", json, "As one JSON object");
  if (const auto code = parse_command(app, arguments)) return *code;
  const RunStatus status = StatusReader(find_run(run)).read();
  const std::string text = json ? status_json(status) : status_text(status);
  std::fputs(text.c_str(), stdout);
  return kExitSuccess;
}

}  // namespace catena::launcher
