#include <filesystem>
#include <fstream>
#include <sstream>

#include "training/commands/doctor/ask.h"
#include "training/commands/doctor/finding.h"

namespace catena::doctor {
namespace {

constexpr const char* kMpiUse =
    "joins the ranks that it starts: mpirun -n 2 catena train CONFIG, or by "
    "catena launch --engine mpi";
constexpr const char* kNetworkUse =
    "between machines ranks talk over the one that leads to rank 0";

/// "mpirun (Open MPI) 4.1.4"; of MPICH, whose version is on the second line,
/// both.
std::string version_line(const std::string& answer) {
  std::istringstream lines(answer);
  std::string first, second;
  std::getline(lines, first);
  if (!first.ends_with(':')) return first;
  std::getline(lines >> std::ws, second);
  return first + " " + second;
}

Finding mpi() {
  if (!on_search_path("mpirun")) {
    return {"MPI", Mark::kNote, "no mpirun on PATH", kMpiUse};
  }
  const auto answer = ask({"mpirun", "--version"});
  if (!answer.has_value() || answer->empty()) {
    return {"MPI", Mark::kNote, "mpirun does not answer", kMpiUse};
  }
  return {"MPI", Mark::kNote, version_line(*answer), kMpiUse};
}

/// "eth0 10000 Mbit/s, ...": interfaces that are up, but for loopback.
Finding interfaces() {
  std::string value;
  std::error_code code;
  for (const auto& entry :
       std::filesystem::directory_iterator("/sys/class/net", code)) {
    const std::string name = entry.path().filename().string();
    std::string state;
    std::ifstream(entry.path() / "operstate") >> state;
    if (name == "lo" || state == "down") continue;
    int speed = 0;
    std::ifstream(entry.path() / "speed") >> speed;
    value += fmt::format("{}{}", value.empty() ? "" : ", ", name);
    if (speed > 0) value += fmt::format(" {} Mbit/s", speed);
  }
  return {"network", Mark::kNote, value.empty() ? "none" : value, kNetworkUse};
}

}  // namespace

Findings network_findings() { return {mpi(), interfaces()}; }

}  // namespace catena::doctor
