#pragma once

#include <functional>
#include <ostream>
#include <string>

#include "parallel/transport.h"

namespace catena::testing {

/// A kind of transport, for the suites that hold for all.
struct RankRunner {
  std::string name;
  /// Runs work(transport) once a rank. Expectations of every rank count; an
  /// exception of one ends all.
  std::function<void(int size, const std::function<void(Transport&)>& work)>
      run;
};

inline std::ostream& operator<<(std::ostream& out, const RankRunner& runner) {
  return out << runner.name;
}

/// Threads of this process.
[[nodiscard]] RankRunner local_ranks();
/// Processes of their own. Fails the test when one of them crashes, or takes
/// more than a minute, or leaves a name in /dev/shm.
[[nodiscard]] RankRunner shared_memory_ranks();

}  // namespace catena::testing
