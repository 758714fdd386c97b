#include "parallel/local/transport.h"
#include "tests/parallel/ranks.h"

namespace catena::testing {

std::vector<RankCase> rank_cases() {
  std::vector<RankCase> all;
  for (const int size : {1, 2, 3, 4, 7, 8}) {
    all.push_back({{"local", local::run_ranks}, size});
  }
  for (const int size : {1, 2, 3, 4}) {
    all.push_back({shared_memory_ranks(), size});
  }
  return all;
}

}  // namespace catena::testing
