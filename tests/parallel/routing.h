#pragma once

#include "parallel/dispatch.h"
#include "tests/support/kernel_testing.h"

namespace catena::testing {

/// Choices of distinct experts, as routers make them.
struct Routing {
  std::int64_t tokens, top_k, experts, hidden;
  Values index, weight;
};

inline void make_plan(const Dispatch& dispatch, FrameMemory& frames,
                      TensorView x, TensorView index, TensorView weight,
                      std::int64_t experts, Arena& keep, Arena& scratch,
                      DispatchPlan& plan) {
  Task task =
      dispatch.plan(frames, x, index, weight, experts, 0, keep, scratch, plan);
  Pipeline pipeline;
  pipeline.run({&task, 1});
}

inline Values row(const Values& x, std::int64_t index, std::int64_t width) {
  return {x.begin() + index * width, x.begin() + (index + 1) * width};
}

}  // namespace catena::testing
