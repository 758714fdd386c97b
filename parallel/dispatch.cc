#include "parallel/dispatch.h"

#include <numeric>

namespace catena {
Tag Dispatch::tag(const DispatchPlan& plan, Phase phase) const {
  Tag tag = plan.tag;
  tag.phase = phase;
  return tag;
}

void Dispatch::sort(TensorView index, std::int64_t experts, std::int64_t rows,
                    Arena& keep, Arena& scratch, DispatchRound& round) const {
  const std::int64_t choices = index.elements();
  // As long on every rank, so that what is planned for one holds for all.
  const std::int64_t most = ranks_ != nullptr ? ranks_->most_held() : experts;
  round.offsets =
      keep.allocate(DType::kInt32, {most + 1}).slice(0, 0, experts + 1);
  round.place = keep.allocate(DType::kInt32, index.shape());
  round.row = keep.allocate(DType::kInt32, {choices});
  round.entry = scratch.allocate(DType::kInt32, {choices});
  (*kernels_)(GroupRows{
      .index = index,
      .map = ranks_ != nullptr ? ranks_->local(tag_.layer) : TensorView(),
      .offsets = round.offsets,
      .place = round.place,
      .entry = round.entry,
      .row = round.row});
  if (ranks_ != nullptr && !modelled()) {
    std::int32_t last = 0;
    ranks_->backend().copy_to_host(
        &last, round.offsets.as<std::int32_t>() + experts, sizeof last);
    rows = last;
  }
  round.rows = rows;
  round.entry = round.entry.slice(0, 0, rows);
  round.row = round.row.slice(0, 0, rows);
}

Pending Dispatch::dispatch(DispatchPlan& plan, DispatchRound& round,
                           Arena& scratch) const {
  if (ranks_ == nullptr) {
    round.x = plan.x;
    return {};
  }
  if (crosses()) {
    wait(plan.crossing.weight_sent);
    wait(plan.crossing.x_sent);
  }
  enter(plan, round);
  const Shape choices{round.guests, plan.top_k};
  round.index = scratch.allocate(DType::kInt32, choices);
  round.weight = scratch.allocate(plan.weight.dtype(), choices);
  round.x = scratch.allocate(ranks_->rules().row_type(plan.compute),
                             {round.guests, plan.x.size(1)});
  const RowExchange details = exchange(plan, Phase::kPlan);
  round.index_sent = details.out(round.runs, plan.kept, round.index);
  round.weight_sent =
      details.out(round.runs, plan.weight, plan.copied, round.weight, scratch);
  return exchange(plan, Phase::kDispatch)
      .out(round.runs, plan.x, plan.copied, round.x, scratch);
}

void Dispatch::receive(const DispatchPlan& plan, DispatchRound& round,
                       Arena& keep, Arena& scratch) const {
  if (ranks_ != nullptr) {
    wait(round.index_sent);
    wait(round.weight_sent);
    const auto held = ranks_->held(tag_.layer).size();
    sort(round.index, static_cast<std::int64_t>(held),
         modelled() ? plan.modelled.rows_of(round.number) : 0, keep, scratch,
         round);
  }
  round.received = keep.allocate(plan.compute, {round.rows, round.x.size(1)});
  round.received_weight = keep.allocate(round.weight.dtype(), {round.rows});
  (*kernels_)(
      GatherRows{.source = round.x, .index = round.row, .out = round.received});
  (*kernels_)(
      GatherRows{.source = round.weight.reshape({round.guests * plan.top_k, 1}),
                 .index = round.entry,
                 .out = round.received_weight.reshape({round.rows, 1})});
}

Pending Dispatch::combine(DispatchPlan& plan, DispatchRound& round,
                          TensorView result, Arena& scratch) const {
  if (ranks_ == nullptr) return {};
  const auto form = [&](std::int64_t begin, std::int64_t count, TensorView to) {
    (*kernels_)(CombineRows{.source = result,
                            .index = round.place.slice(0, begin, count),
                            .weight = round.weight.slice(0, begin, count),
                            .residual = {},
                            .out = to});
  };
  return exchange(plan, Phase::kCombine)
      .back(round.runs, form, plan.back, scratch);
}

Pending Dispatch::return_sums(DispatchPlan& plan, Phase phase,
                              Arena& scratch) const {
  const TensorView sums =
      scratch.allocate(plan.back.dtype(), {plan.tokens, plan.back.size(1)});
  (*kernels_)(CombineRows{.source = plan.back,
                          .index = plan.returned,
                          .weight = {},
                          .residual = {},
                          .out = sums});
  return crossing(plan).return_rows(plan.crossing, phase, sums, scratch);
}

Pending Dispatch::return_results(DispatchPlan& plan, Arena& scratch) const {
  return return_sums(plan, Phase::kCombine, scratch);
}

void Dispatch::add_results(DispatchPlan& plan, TensorView result,
                           TensorView out, bool accumulate,
                           TensorView residual) const {
  const bool alone = ranks_ == nullptr, across = crosses();
  (*kernels_)(CombineRows{.source = alone    ? result
                                    : across ? plan.crossing.back
                                             : plan.back,
                          .index = alone    ? plan.main.place
                                   : across ? plan.crossing.returned
                                            : plan.returned,
                          .weight = alone ? plan.weight : TensorView(),
                          .residual = residual,
                          .out = out,
                          .accumulate = accumulate});
}

void Dispatch::plan_gradient(DispatchPlan& plan, TensorView d_out,
                             Arena& scratch) const {
  plan.d = d_out;
  if (ranks_ == nullptr) return;
  const DispatchRules& rules = ranks_->rules();
  if (crosses()) {
    const Crossing crossing = this->crossing(plan);
    const DType type = rules.row_type(plan.compute);
    if (plan.rounds > 1) {
      take(plan, crossing.bring_again(plan.crossing, type, scratch));
    }
    plan.d = crossing.bring_gradient(plan.crossing, d_out, type, scratch);
    plan.crossed = plan.crossing.d_sent;
  }
  const std::int64_t copies =
      std::accumulate(plan.copies.begin(), plan.copies.end(), std::int64_t{0});
  plan.back =
      scratch.allocate(rules.sum_type(plan.compute), {copies, d_out.size(1)});
  plan.back_weight =
      scratch.allocate(plan.weight.dtype(), {copies, plan.top_k});
}

void Dispatch::plan_later(DispatchPlan& plan, Arena& scratch) const {
  if (crosses()) wait(plan.crossing.index_sent);
  partition(plan, scratch);
}

Pending Dispatch::combine_gradient(DispatchPlan& plan, DispatchRound& round,
                                   Arena& scratch) const {
  if (ranks_ == nullptr) {
    round.d = plan.d;
    return {};
  }
  round.d = scratch.allocate(ranks_->rules().row_type(plan.compute),
                             {round.guests, plan.d.size(1)});
  return exchange(plan, Phase::kCombineGradient)
      .out(round.runs, plan.d, plan.copied, round.d, scratch);
}

void Dispatch::receive_gradient(const DispatchRound& round,
                                TensorView d_result) const {
  (*kernels_)(
      GatherRows{.source = round.d, .index = round.row, .out = d_result});
}

Pending Dispatch::dispatch_gradient(DispatchPlan& plan, DispatchRound& round,
                                    TensorView d_received,
                                    TensorView d_received_weight,
                                    Arena& scratch) const {
  if (ranks_ == nullptr) return {};
  const auto form_weights = [&](std::int64_t begin, std::int64_t count,
                                TensorView to) {
    const std::int64_t choices = count * plan.top_k;
    (*kernels_)(GatherRows{
        .source = d_received_weight.reshape({round.rows, 1}),
        .index = round.place.slice(0, begin, count).reshape({choices}),
        .out = to.reshape({choices, 1})});
  };
  const auto form = [&](std::int64_t begin, std::int64_t count, TensorView to) {
    (*kernels_)(CombineRows{.source = d_received,
                            .index = round.place.slice(0, begin, count),
                            .weight = {},
                            .residual = {},
                            .out = to});
  };
  const RowExchange home = exchange(plan, Phase::kDispatchGradient);
  round.weight_sent =
      home.back(round.runs, form_weights, plan.back_weight, scratch);
  return home.back(round.runs, form, plan.back, scratch);
}

Pending Dispatch::return_gradients(DispatchPlan& plan, Arena& scratch) const {
  wait(plan.main.weight_sent);
  const Crossing crossing = this->crossing(plan);
  const std::int64_t choices = plan.tokens * plan.top_k;
  const TensorView weights =
      scratch.allocate(plan.back_weight.dtype(), {plan.tokens, plan.top_k});
  (*kernels_)(GatherRows{
      .source = plan.back_weight.reshape({plan.back_weight.elements(), 1}),
      .index = plan.chosen.reshape({choices}),
      .out = weights.reshape({choices, 1})});
  crossing.return_weights(plan.crossing, weights, scratch);
  return return_sums(plan, Phase::kDispatchGradient, scratch);
}

void Dispatch::add_gradients(DispatchPlan& plan, TensorView d_received,
                             TensorView d_received_weight, TensorView d_x,
                             bool accumulate, TensorView residual,
                             TensorView d_weight) const {
  const bool alone = ranks_ == nullptr, across = crosses();
  if (across) {
    wait(plan.crossing.weight_sent);
  } else if (!alone) {
    wait(plan.main.weight_sent);
  }
  (*kernels_)(CombineRows{.source = alone    ? d_received
                                    : across ? plan.crossing.back
                                             : plan.back,
                          .index = alone    ? plan.main.place
                                   : across ? plan.crossing.returned
                                            : plan.returned,
                          .weight = {},
                          .residual = residual,
                          .out = d_x,
                          .accumulate = accumulate});
  const std::int64_t choices = d_weight.elements();
  const TensorView weights = alone    ? d_received_weight
                             : across ? plan.crossing.back_weight
                                      : plan.back_weight;
  const TensorView chosen = alone    ? plan.main.place
                            : across ? plan.crossing.chosen
                                     : plan.chosen;
  (*kernels_)(GatherRows{.source = weights.reshape({weights.elements(), 1}),
                         .index = chosen.reshape({choices}),
                         .out = d_weight.reshape({choices, 1})});
}

}  // namespace catena
