#include "parallel/work.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <future>

#include "runtime/base/signals_held.h"

namespace catena {

void wait_for_work(Communicator& all, const Work& work) {
  constexpr Communicator::Deadline kTurn(1);
  const auto turn = std::min(kTurn, all.deadline() / 4);
  std::future<void> own;
  if (work) {
    const SignalsHeld held;  // signals are for the thread that trains
    own = std::async(std::launch::async, work);
  }
  for (std::int64_t working = 1; working > 0;) {
    working = 0;
    if (own.valid()) {
      if (own.wait_for(turn) == std::future_status::ready) {
        own.get();
      } else {
        working = 1;
      }
    }
    wait(all.all_reduce({}, {&working, DType::kInt64, {1}}));
  }
}

}  // namespace catena
