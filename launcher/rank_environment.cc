#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "launcher/contract.h"
#include "launcher/local_agent.h"

namespace catena::launcher {
namespace {

std::string_view name_of(std::string_view assignment) {
  return assignment.substr(0, assignment.find('='));
}

/// Would tell a rank that it is another one, or was started by others.
constexpr std::array kRemoved = {
    kRankVariable,         kWorldSizeVariable, kRendezvousVariable,
    kRendezvousFdVariable, kTokenVariable,     kTokenFileVariable,
    kControlVariable,      kJobVariable,       kGenerationVariable,
    kRestartCountVariable, kRunVariable,       "RANK",
    "LOCAL_RANK",          "WORLD_SIZE",       "LOCAL_WORLD_SIZE",
    "NODE_RANK",           "GROUP_RANK",       "GROUP_WORLD_SIZE",
    "MASTER_ADDR",         "MASTER_PORT",      "OMPI_COMM_WORLD_SIZE",
    "PMIX_RANK",           kSharersVariable,   kNodeVariable,
    kLeaseVariable};

bool is_removed(std::string_view name) {
  return std::find(kRemoved.begin(), kRemoved.end(), name) != kRemoved.end();
}

class Variables {
 public:
  /// This process's, and `more` over it.
  explicit Variables(const std::vector<std::string>& more) {
    const auto is_set = [&](std::string_view name) {
      return std::any_of(more.begin(), more.end(),
                         [&](const auto& own) { return name_of(own) == name; });
    };
    for (char** entry = environ; entry != nullptr && *entry != nullptr;
         ++entry) {
      const std::string_view name = name_of(*entry);
      if (!is_removed(name) && !is_set(name)) all_.emplace_back(*entry);
    }
    all_.insert(all_.end(), more.begin(), more.end());
  }

  template <class Value>
  void set(const char* name, const Value& value) {
    std::erase_if(all_, [&](const auto& own) { return name_of(own) == name; });
    all_.push_back(fmt::format("{}={}", name, value));
  }
  [[nodiscard]] std::vector<std::string> take() { return std::move(all_); }

 private:
  std::vector<std::string> all_;
};

/// What programs that torchrun starts are told.
void set_as_torchrun_does(Variables& variables, const SpawnRank& start) {
  variables.set("RANK", start.rank);
  variables.set("WORLD_SIZE", start.world);
  variables.set("LOCAL_RANK", start.local_rank);
  variables.set("LOCAL_WORLD_SIZE", start.local_world);
  variables.set("NODE_RANK", start.node);
  variables.set("GROUP_RANK", start.node);
  variables.set("GROUP_WORLD_SIZE", start.nodes);
  const std::string_view place = start.rendezvous;
  const auto colon = place.rfind(':');
  if (colon == std::string_view::npos) return;
  std::string_view host = place.substr(0, colon);
  if (host.starts_with('[')) host = host.substr(1, host.size() - 2);
  variables.set("MASTER_ADDR", host);
  variables.set("MASTER_PORT", place.substr(colon + 1));
}

Variables of_job(const RankSetup& setup, int generation) {
  Variables variables(setup.environment);
  variables.set(kJobVariable, setup.job);
  variables.set(kGenerationVariable, generation);
  variables.set(kRestartCountVariable, generation - 1);
  variables.set(kRunVariable, setup.run.string());
  return variables;
}

}  // namespace

std::vector<std::string> job_environment(const RankSetup& setup,
                                         int generation) {
  return of_job(setup, generation).take();
}

std::vector<std::string> rank_environment(const RankSetup& setup,
                                          const SpawnRank& start) {
  Variables variables = of_job(setup, start.generation);
  set_as_torchrun_does(variables, start);
  if (start.world > 1) {
    variables.set(kRankVariable, start.rank);
    variables.set(kWorldSizeVariable, start.world);
    variables.set(kRendezvousVariable, start.rendezvous);
    variables.set(kTokenVariable, setup.token);
    variables.set(kNodeVariable, start.node);
  }
  return variables.take();
}

}  // namespace catena::launcher
