#include "parallel/gloo/transport.h"
#include "tests/parallel/processes.h"

namespace catena::testing {

std::vector<RankCase> rank_cases() {
  std::vector<RankCase> all;
  RankRunner runner = process_ranks(
      "gloo", [](int rank, int size, Store& store, const std::string&) {
        return gloo::connect(rank, size, store, {});
      });
  if (!gloo::available()) runner.absent = "built without Gloo (libgloo-dev)";
  for (const int size : {1, 2, 4}) all.push_back({runner, size});
  return all;
}

}  // namespace catena::testing
