#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "launcher/contract.h"
#include "launcher/local_agent.h"

namespace catena::launcher {
namespace {

std::string_view name_of(std::string_view assignment) {
  return assignment.substr(0, assignment.find('='));
}

/// Would tell a rank that it is another one, or was started by others.
constexpr std::array kRemoved = {
    kRankVariable,         kWorldSizeVariable,     kRendezvousVariable,
    kRendezvousFdVariable, kTokenVariable,         kTokenFileVariable,
    kControlVariable,      kJobVariable,           kGenerationVariable,
    kRunVariable,          "OMPI_COMM_WORLD_SIZE", "PMIX_RANK"};

}  // namespace

std::vector<std::string> rank_environment(const RankSetup& setup,
                                          int generation, int rank, int world,
                                          const std::string& rendezvous) {
  std::vector<std::string> result;
  const auto is_set = [&](std::string_view name) {
    return std::any_of(setup.environment.begin(), setup.environment.end(),
                       [&](const auto& own) { return name_of(own) == name; });
  };
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view name = name_of(*entry);
    const bool removed =
        std::find(kRemoved.begin(), kRemoved.end(), name) != kRemoved.end();
    if (!removed && !is_set(name)) result.emplace_back(*entry);
  }
  result.insert(result.end(), setup.environment.begin(),
                setup.environment.end());
  const auto set = [&](const char* name, const auto& value) {
    result.push_back(fmt::format("{}={}", name, value));
  };
  set(kJobVariable, setup.job);
  set(kGenerationVariable, generation);
  set(kRunVariable, setup.run.string());
  if (world > 1) {
    set(kRankVariable, rank);
    set(kWorldSizeVariable, world);
    set(kRendezvousVariable, rendezvous);
    set(kTokenVariable, setup.token);
  }
  return result;
}

}  // namespace catena::launcher
