#include "launcher/process_report.h"

#include <fmt/format.h>
#include <unistd.h>

#include <fstream>
#include <iterator>
#include <sstream>
#include <string_view>

namespace catena::launcher {
namespace {

constexpr double kKibi = 1024;

/// All of a file of /proc, or "" where it is not there or not for us.
std::string proc_file(int process, std::string_view name) {
  std::ifstream file(fmt::format("/proc/{}/{}", process, name));
  return {std::istreambuf_iterator<char>(file), {}};
}

/// What follows "NAME:" in a file of such lines.
std::string field(const std::string& text, const std::string& name) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with(name + ":")) continue;
    const auto begin = line.find_first_not_of(" \t", name.size() + 1);
    return begin == std::string::npos ? "" : line.substr(begin);
  }
  return "?";
}

/// Of all its threads, in user and kernel mode.
double processor_seconds(int process) {
  const std::string text = proc_file(process, "stat");
  // Its name, in parentheses, may hold anything.
  const auto name_end = text.rfind(')');
  if (name_end == std::string::npos) return 0;
  std::istringstream fields(text.substr(name_end + 1));
  constexpr int kBetween = 11;
  std::string skipped;
  for (int i = 0; i < kBetween; ++i) fields >> skipped;
  double user = 0, kernel = 0;
  fields >> user >> kernel;
  return (user + kernel) / static_cast<double>(::sysconf(_SC_CLK_TCK));
}

}  // namespace

std::string process_report(int process) {
  const std::string status = proc_file(process, "status");
  if (status.empty()) return fmt::format("process {}: gone", process);
  std::string text = fmt::format(
      "process {}: {}, {} threads, {:.0f} MiB, {:.3g} s of processor time",
      process, field(status, "State"), field(status, "Threads"),
      std::strtod(field(status, "VmRSS").c_str(), nullptr) / kKibi,
      processor_seconds(process));
  const std::string place = proc_file(process, "wchan");
  if (!place.empty() && place != "0") text += ", in " + place;
  std::string stack = proc_file(process, "stack");
  while (!stack.empty() && stack.back() == '\n') stack.pop_back();
  if (!stack.empty()) text += "\n" + stack;
  return text;
}

}  // namespace catena::launcher
