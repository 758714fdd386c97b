#pragma once

#include <functional>
#include <ostream>
#include <string>
#include <vector>

#include "parallel/transport.h"

namespace catena::testing {

/// A kind of transport, for the suites that hold for all.
struct RankRunner {
  std::string name;
  /// Runs work(transport) once a rank. Expectations of every rank count; an
  /// exception of one ends all.
  using Run = std::function<void(int size,
                                 const std::function<void(Transport&)>& work)>;
  Run run;
  /// Why it cannot be run at all, or not to the end when a rank gives up.
  std::string absent = "", no_faults = "";
};

struct RankCase {
  RankRunner runner;
  int size;
};

inline std::ostream& operator<<(std::ostream& out, const RankRunner& runner) {
  return out << runner.name;
}

inline std::ostream& operator<<(std::ostream& out, const RankCase& c) {
  return out << c.runner << " " << c.size;
}

/// For communicator_test.cc: what it is run with. Every program that it is
/// part of has its own.
[[nodiscard]] std::vector<RankCase> rank_cases();

}  // namespace catena::testing
