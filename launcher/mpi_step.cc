#include "launcher/mpi_step.h"

#include <fmt/format.h>

#include <cctype>
#include <charconv>
#include <regex>

#include "launcher/commands/trainer.h"
#include "runtime/base/error.h"

namespace catena::launcher {
namespace {

std::string host_list(const RankLayout& layout) {
  std::string list;
  for (std::size_t i = 0; i < layout.hosts.size(); ++i) {
    const Host& host = layout.hosts[i];
    if (!host.user.empty()) {
      fail(ErrorKind::kUsage,
           "{}: mpirun takes no user; say in ~/.ssh/config who logs in there",
           host_text(host));
    }
    list += fmt::format("{}{}:{}", list.empty() ? "" : ",", host.name,
                        layout.ranks[i].size());
  }
  return list;
}

std::size_t count_ranks(const RankLayout& layout) {
  std::size_t count = 0;
  for (const auto& ranks : layout.ranks) count += ranks.size();
  return count;
}

int number(const std::ssub_match& match) {
  const std::string text = match.str();
  int value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

/// mpirun wraps its lines as it likes.
std::string in_one_line(std::string_view text) {
  std::string line;
  for (const char letter : text) {
    const bool blank = std::isspace(static_cast<unsigned char>(letter)) != 0;
    if (!blank) line += letter;
    if (blank && !line.ends_with(' ')) line += ' ';
  }
  return line;
}

}  // namespace

std::vector<std::string> mpirun_arguments(const MpiStep& step) {
  std::vector<std::string> arguments = {
      "mpirun",   "-n",          fmt::format("{}", count_ranks(step.layout)),
      "--map-by", "slot",        "--bind-to",
      "none",     "--tag-output"};
  const auto add = [&](std::initializer_list<std::string> more) {
    arguments.insert(arguments.end(), more);
  };
  // More ranks than Slurm's tasks or this machine's cores are meant.
  add({"--oversubscribe"});
  if (!step.here) add({"--host", host_list(step.layout)});
  for (const std::string& name : step.environment) add({"-x", name});
  arguments.insert(arguments.end(), step.command.begin(), step.command.end());
  return arguments;
}

std::filesystem::path find_mpirun() {
  // Debian's name for it, where another MPI may be the one that has the plain
  // one.
  const auto debian = on_search_path("mpirun.openmpi");
  return debian.empty() ? on_search_path("mpirun") : debian;
}

MpiLine parse_mpi_line(std::string_view line) {
  // "[1,3]<stderr>:text": of job 1, the ranks', and rank 3.
  static const std::regex tag(
      R"(^\[\d+,(\d{1,9})\]<(stdout|stderr|stddiag)>:)");
  const std::string head(line.substr(0, 40));
  std::smatch match;
  if (!std::regex_search(head, match, tag)) return {.text = line};
  return {.rank = number(match[1]),
          .output = match[2] == "stdout",
          .text = line.substr(static_cast<std::size_t>(match.length(0)))};
}

std::optional<MpiFailure> first_failure(std::string_view said) {
  static const std::regex aborted(
      R"(MPI_ABORT was invoked on rank (\d+) in communicator .{0,80}? with errorcode (\d+))");
  static const std::regex killed(
      R"(process rank (\d+) with PID \d+ on node \S+ exited on signal (\d+))");
  static const std::regex ended(
      R"(The first process to do so was: Process name: \[\[\d+,\d+\],(\d+)\] Exit code: (\d+))");
  const std::string text = in_one_line(said);
  std::smatch match;
  if (std::regex_search(text, match, aborted) ||
      std::regex_search(text, match, ended)) {
    return MpiFailure{.rank = number(match[1]), .code = number(match[2])};
  }
  if (std::regex_search(text, match, killed)) {
    return MpiFailure{.rank = number(match[1]), .signal = number(match[2])};
  }
  return std::nullopt;
}

}  // namespace catena::launcher
