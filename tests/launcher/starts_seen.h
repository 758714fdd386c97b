#pragma once

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <utility>
#include <variant>

#include "launcher/job_state.h"

namespace catena::launcher {

/// Every start of ranks that agents are told of, of which it expects what must
/// hold.
class StartsSeen {
 public:
  explicit StartsSeen(const JobOptions& options) {
    for (const auto& ranks : options.ranks) {
      whole_ += static_cast<int>(ranks.size());
    }
  }

  void note(const SendCommand& send) {
    const auto* start = std::get_if<StartGeneration>(&send.command.body);
    if (start != nullptr) note(send, *start);
  }
  [[nodiscard]] int generations() const {
    return static_cast<int>(worlds_.size());
  }
  /// Whether a generation had fewer ranks than the job.
  [[nodiscard]] bool was_smaller() const { return smaller_; }

 private:
  void note(const SendCommand& send, const StartGeneration& start) {
    const int generation = send.command.generation;
    EXPECT_EQ(worlds_.emplace(generation, start.world).first->second,
              start.world);
    for (const int rank : start.ranks) {
      EXPECT_LT(rank, start.world);
      EXPECT_EQ(places_.emplace(std::pair(generation, rank), send.agent)
                    .first->second,
                send.agent)
          << "a rank of two agents";
    }
    if (start.world < whole_) smaller_ = true;
  }

  int whole_ = 0;
  bool smaller_ = false;
  std::map<int, int> worlds_;                  ///< of generations
  std::map<std::pair<int, int>, int> places_;  ///< generation, rank: agent
};

}  // namespace catena::launcher
