#include "parallel/gloo/transport.h"
#include "parallel/joined/transport.h"
#include "tests/parallel/processes.h"

namespace catena::testing {
namespace {

/// On pretended nodes: rank r says that it is on node(r).
RankRunner on_nodes(const char* name, int (*node)(int rank)) {
  RankRunner runner = process_ranks(
      name, [node](int rank, int size, Store& store, const std::string& token) {
        return joined::connect(
            rank, size, store,
            {.token = token, .node = fmt::format("{}", node(rank))});
      });
  if (!gloo::available()) runner.absent = "built without Gloo (libgloo-dev)";
  return runner;
}

}  // namespace

std::vector<RankCase> rank_cases() {
  const RankRunner pairs = on_nodes("pairs", [](int rank) { return rank / 2; });
  return {{on_nodes("one_node", [](int) { return 0; }), 2},
          {on_nodes("alone", [](int rank) { return rank; }), 2},
          {on_nodes("in_turn", [](int rank) { return rank % 2; }), 4},
          {pairs, 1},
          {pairs, 3},
          {pairs, 4}};
}

}  // namespace catena::testing
