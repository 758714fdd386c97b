#include "parallel/local/transport.h"
#include "parallel/simulated/transport.h"
#include "tests/parallel/processes.h"

namespace catena::testing {

std::vector<RankCase> rank_cases() {
  std::vector<RankCase> all;
  const auto run_simulated = [](int size,
                                const std::function<void(Transport&)>& work) {
    local::run_ranks(size, [&](Transport& inner) {
      const auto slow =
          simulated::make_transport(inner, {.bytes_per_second = 1e9,
                                            .message_seconds = 1e-6,
                                            .latency_seconds = 1e-4});
      work(*slow);
    });
  };
  for (const int size : {1, 2, 3, 4, 7, 8}) {
    all.push_back({{"local", local::run_ranks}, size});
    all.push_back({{"simulated", run_simulated}, size});
  }
  const RankRunner shared_memory =
      process_ranks("shared_memory", over_shared_memory());
  for (const int size : {1, 2, 3, 4}) {
    all.push_back({shared_memory, size});
  }
  return all;
}

}  // namespace catena::testing
