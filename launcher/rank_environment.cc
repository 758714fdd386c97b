#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "launcher/contract.h"
#include "launcher/local_agent.h"

namespace catena::launcher {
namespace {

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
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    const std::string_view name = text.substr(0, text.find('='));
    if (std::find(kRemoved.begin(), kRemoved.end(), name) == kRemoved.end()) {
      result.emplace_back(text);
    }
  }
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
