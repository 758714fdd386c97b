#include "launcher/commands/trainer.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "launcher/contract.h"
#include "runtime/base/error.h"

namespace catena::launcher {
namespace {

namespace fs = std::filesystem;

constexpr std::array<TrainerCommand, 8> kCommands = {{
    {"train", "train a model as a configuration file says"},
    {"plan", "what a configuration will take; runs nothing"},
    {"verify", "show that no layout of ranks changes the answer"},
    {"evaluate", "validation loss and answers of a trained model"},
    {"generate", "continue a prompt with a trained model"},
    {"data", "prepare, encode and inspect training text"},
    {"config", "explain, check and print configuration keys"},
    {"doctor", "what this machine has, and what it means for speed"},
}};

bool can_run(const fs::path& path) {
  std::error_code ignored;
  return fs::is_regular_file(path, ignored) &&
         ::access(path.c_str(), X_OK) == 0;
}

fs::path own_folder() {
  std::error_code code;
  const fs::path self = fs::read_symlink("/proc/self/exe", code);
  return code ? fs::path() : self.parent_path();
}

}  // namespace

std::span<const TrainerCommand> trainer_commands() { return kCommands; }

bool is_trainer_command(std::string_view name) {
  return std::any_of(
      kCommands.begin(), kCommands.end(),
      [&](const TrainerCommand& command) { return command.name == name; });
}

// Like the shell, an empty entry of PATH is the current folder.
fs::path on_search_path(std::string_view program) {
  const char* variable = std::getenv("PATH");
  std::string_view rest = variable == nullptr ? "" : variable;
  for (;;) {
    const auto end = std::min(rest.find(':'), rest.size());
    const std::string_view entry = rest.substr(0, end);
    const fs::path path = fs::path(entry.empty() ? "." : entry) / program;
    if (can_run(path)) return path;
    if (end == rest.size()) return {};
    rest.remove_prefix(end + 1);
  }
}

fs::path find_trainer() {
  const char* named = std::getenv(kTrainerVariable);
  if (named != nullptr && *named != '\0') {
    if (can_run(named)) return named;
    fail(ErrorKind::kUnsupported,
         "{} names {}, which is not a program; correct or unset it",
         kTrainerVariable, named);
  }
  const fs::path folder = own_folder();
  if (!folder.empty() && can_run(folder / kTrainerName)) {
    return folder / kTrainerName;
  }
  const fs::path found = on_search_path(kTrainerName);
  if (!found.empty()) return found;
  fail(ErrorKind::kUnsupported,
       "cannot find {}: it is neither in {} nor on PATH; build it with "
       "./catena.sh build, or name it in {}",
       kTrainerName, folder.string(), kTrainerVariable);
}

void run_trainer(std::span<const std::string> arguments) {
  const std::string program = find_trainer().string();
  std::vector<char*> pointers = {const_cast<char*>(program.c_str())};
  for (const std::string& argument : arguments) {
    pointers.push_back(const_cast<char*>(argument.c_str()));
  }
  pointers.push_back(nullptr);
  ::execv(program.c_str(), pointers.data());
  fail(ErrorKind::kUnsupported, "cannot run {}: {}", program,
       std::strerror(errno));
}

}  // namespace catena::launcher
