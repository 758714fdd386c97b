#include "launcher/preflight/machine_choice.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "launcher/contract.h"

namespace catena::launcher {
namespace {

std::string names(const std::vector<NodeFacts>& nodes,
                  const std::vector<Finding>& findings,
                  const std::set<int>& which) {
  std::string text;
  for (const Finding& finding : findings) {
    if (!which.contains(finding.node) || finding.severity == Severity::kNoted) {
      continue;
    }
    text += fmt::format("{}{} ({}) is {}: {}", text.empty() ? "" : "; ",
                        finding.node,
                        nodes[static_cast<std::size_t>(finding.node)].host,
                        name_of(finding.severity), finding.text);
  }
  return text;
}

}  // namespace

Chosen choose(const std::vector<NodeFacts>& nodes,
              const std::vector<bool>& there,
              const std::vector<Finding>& findings, const Wanted& wanted) {
  Chosen chosen;
  std::set<int> excluded;
  int bad = 0;
  for (const Finding& finding : findings) {
    if (finding.severity == Severity::kNoted) continue;
    if (wanted.exclude_slow) {
      excluded.insert(finding.node);
      bad = std::max(bad, finding.code);
    } else if (finding.severity == Severity::kBad && chosen.code == 0 &&
               finding.node < wanted.machines) {
      chosen.code = finding.code;
      chosen.why = names(nodes, findings, {finding.node});
    }
  }
  if (chosen.code != 0) return chosen;
  for (const bool wanted_there : {true, false}) {
    for (std::size_t i = 0; i < nodes.size(); ++i) {
      const int node = static_cast<int>(i);
      if (there[i] == wanted_there && !excluded.contains(node) &&
          static_cast<int>(chosen.nodes.size()) < wanted.machines) {
        chosen.nodes.push_back(node);
      }
    }
  }
  std::sort(chosen.nodes.begin(), chosen.nodes.end());
  if (static_cast<int>(chosen.nodes.size()) < wanted.least) {
    // What all lack, other machines would hardly have.
    chosen.code = chosen.nodes.empty() && bad != 0 ? bad : kExitNotAssembled;
    chosen.why = fmt::format(
        "{} machines are left without those that are slow or bad, and the job "
        "needs {}: {}; let it do with fewer (--nnodes N:M), name spare hosts, "
        "or leave --exclude-slow out",
        chosen.nodes.size(), wanted.least, names(nodes, findings, excluded));
  }
  return chosen;
}

}  // namespace catena::launcher
