#pragma once

#include <gtest/gtest.h>

#include <set>
#include <utility>

#include "launcher/job_state.h"

namespace catena::launcher {

/// What a job's journal would hold, of whose order it expects what must hold.
class Told {
 public:
  void note(const JobAction& action) {
    if (const auto* moved = std::get_if<Moved>(&action)) note(*moved);
    if (const auto* ended = std::get_if<RankEnded>(&action)) note(*ended);
  }
  [[nodiscard]] JobPhase phase() const { return phase_; }

 private:
  void note(const Moved& moved) {
    EXPECT_FALSE(is_end(phase_)) << "V10: a phase after the end";
    EXPECT_NE(moved.phase, phase_);
    const int more = moved.phase == JobPhase::kRestarting ? 1 : 0;
    EXPECT_GE(moved.generation, generation_ + more);
    phase_ = moved.phase;
    generation_ = moved.generation;
  }
  void note(const RankEnded& ended) {
    EXPECT_FALSE(is_end(phase_)) << "V10: the end of a rank after the job's";
    EXPECT_EQ(ended.generation, generation_);
    EXPECT_TRUE(ranks_.insert({ended.generation, ended.ending.rank}).second)
        << "V10: the end of a rank is told twice";
  }

  JobPhase phase_ = JobPhase::kNew;
  int generation_ = 0;
  std::set<std::pair<int, int>> ranks_;
};

}  // namespace catena::launcher
