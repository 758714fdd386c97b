#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "launcher/contract.h"
#include "training/commands/commands.h"
#include "training/commands/doctor/finding.h"

namespace catena {
namespace {

using doctor::Finding;
using doctor::Findings;
using doctor::Mark;

const char* text(Mark mark) {
  switch (mark) {
    case Mark::kGood:
      return "ok";
    case Mark::kNote:
      return "note";
    case Mark::kBad:
      return "bad";
  }
  return "";
}

Findings examine() {
  const auto backend = make_cpu_backend(0);
  Findings all;
  for (const Findings& part :
       {doctor::program_findings(), doctor::processor_findings(*backend),
        doctor::memory_findings(), doctor::disk_findings(),
        doctor::gpu_findings(), doctor::network_findings(),
        doctor::speed_findings(*backend)}) {
    all.insert(all.end(), part.begin(), part.end());
  }
  return all;
}

int run_doctor(bool json) {
  bool healthy = true;
  auto list = nlohmann::ordered_json::array();
  for (const Finding& f : examine()) {
    healthy &= f.mark != Mark::kBad;
    if (json) {
      list.push_back({{"name", f.name},
                      {"mark", text(f.mark)},
                      {"value", f.value},
                      {"meaning", f.meaning}});
      continue;
    }
    std::printf("%-5s %-20s %s\n", text(f.mark), f.name, f.value.c_str());
    if (!f.meaning.empty()) {
      std::printf("      %-20s %s\n", "", f.meaning.c_str());
    }
  }
  if (json) {
    // Names that foreign programs and drivers give need not be UTF-8.
    std::printf("%s\n", list.dump(1, ' ', false,
                                  nlohmann::json::error_handler_t::replace)
                            .c_str());
  }
  return healthy ? kExitSuccess : 1;
}

}  // namespace

void add_doctor_command(CLI::App& app, Action& action) {
  auto json = std::make_shared<bool>(false);
  CLI::App* command = app.add_subcommand(
      "doctor", "What this machine has, and what it means for speed");
  command->add_flag("--json", *json, "A JSON array");
  command->footer(
      "Writes a sample of up to 64 MiB into the current folder, and removes "
      "it.\nEnds with 1 if something keeps runs from working.\n"
      "Example:\n  catena doctor");
  command->callback(
      [json, &action] { action = [json] { return run_doctor(*json); }; });
}

}  // namespace catena
