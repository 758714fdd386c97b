#include "parallel/dispatch.h"

namespace catena {

DispatchPlan Dispatch::plan(TensorView index, std::int64_t experts,
                            Arena& arena) const {
  DispatchPlan plan;
  plan.tokens = index.size(0);
  plan.top_k = index.size(1);
  plan.experts = experts;
  plan.received = plan.tokens * plan.top_k;
  plan.offsets = arena.allocate(DType::kInt32, {experts + 1});
  plan.place = arena.allocate(DType::kInt32, {plan.tokens, plan.top_k});
  plan.entry = arena.allocate(DType::kInt32, {plan.received});
  plan.row = arena.allocate(DType::kInt32, {plan.received});
  (*kernels_)(GroupRows{.index = index,
                        .offsets = plan.offsets,
                        .place = plan.place,
                        .entry = plan.entry,
                        .row = plan.row});
  return plan;
}

Pending Dispatch::dispatch(const DispatchPlan& plan, TensorView x,
                           TensorView weight, TensorView received,
                           TensorView received_weight) const {
  (*kernels_)(GatherRows{.source = x, .index = plan.row, .out = received});
  (*kernels_)(GatherRows{.source = weight.reshape({plan.received, 1}),
                         .index = plan.entry,
                         .out = received_weight.reshape({plan.received, 1})});
  return {};
}

Pending Dispatch::combine(const DispatchPlan& plan, TensorView result,
                          TensorView weight, TensorView out, bool accumulate,
                          TensorView residual) const {
  (*kernels_)(CombineRows{.source = result,
                          .index = plan.place,
                          .weight = weight,
                          .residual = residual,
                          .out = out,
                          .accumulate = accumulate});
  return {};
}

Pending Dispatch::combine_gradient(const DispatchPlan& plan, TensorView d_out,
                                   TensorView d_result) const {
  (*kernels_)(GatherRows{.source = d_out, .index = plan.row, .out = d_result});
  return {};
}

Pending Dispatch::dispatch_gradient(const DispatchPlan& plan,
                                    TensorView d_received,
                                    TensorView d_received_weight,
                                    TensorView d_x, bool accumulate,
                                    TensorView residual,
                                    TensorView d_weight) const {
  (*kernels_)(CombineRows{.source = d_received,
                          .index = plan.place,
                          .weight = {},
                          .residual = residual,
                          .out = d_x,
                          .accumulate = accumulate});
  (*kernels_)(
      GatherRows{.source = d_received_weight.reshape({plan.received, 1}),
                 .index = plan.place.reshape({plan.received}),
                 .out = d_weight.reshape({plan.received, 1})});
  return {};
}

}  // namespace catena
