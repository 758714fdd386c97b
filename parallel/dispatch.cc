#include "parallel/dispatch.h"

#include <numeric>

namespace catena {
namespace {

using Counts = std::vector<std::int64_t>;

std::int64_t sum(const Counts& counts) {
  return std::accumulate(counts.begin(), counts.end(), std::int64_t{0});
}

/// Runs of rows, one a rank.
void cut(TensorView rows, const Counts& begins, const Counts& counts,
         std::vector<Communicator::Part>& parts) {
  const std::int64_t row_bytes = rows.size(1) * size_bytes(rows.dtype());
  auto* data = static_cast<std::byte*>(rows.data());
  parts.clear();
  for (std::size_t r = 0; r < counts.size(); ++r) {
    parts.push_back({data + begins[r] * row_bytes, counts[r] * row_bytes});
  }
}

/// The same where they lie one after another.
void cut(TensorView rows, const Counts& counts,
         std::vector<Communicator::Part>& parts) {
  const std::int64_t row_bytes = rows.size(1) * size_bytes(rows.dtype());
  auto* data = static_cast<std::byte*>(rows.data());
  parts.clear();
  for (const std::int64_t count : counts) {
    parts.push_back({data, count * row_bytes});
    data += count * row_bytes;
  }
}

}  // namespace

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

Pending Dispatch::send_out(DispatchPlan& plan, DispatchRound& round,
                           Phase phase, TensorView x, TensorView guests,
                           Arena& scratch) const {
  Communicator& group = ranks_->expert();
  const auto me = static_cast<std::size_t>(group.rank());
  const TensorView packed =
      (wire_ != nullptr ? *wire_ : scratch)
          .allocate(guests.dtype(), {sum(round.out), x.size(1)});
  const auto gather = [&](std::int64_t from, std::int64_t count,
                          TensorView to) {
    (*kernels_)(GatherRows{
        .source = x, .index = plan.copied.slice(0, from, count), .out = to});
  };
  std::int64_t at = 0;
  for (std::size_t r = 0; r < round.out.size();) {
    const std::int64_t begin = round.out_begin[r];
    std::int64_t count = round.out[r];
    if (r++ == me) {
      gather(begin, count, guests.slice(0, round.in_begin[me], count));
    } else {
      // Copies for several ranks lie side by side unless rounds part them.
      while (r < round.out.size() && r != me &&
             round.out_begin[r] == begin + count) {
        count += round.out[r++];
      }
      gather(begin, count, packed.slice(0, at, count));
    }
    at += count;
  }
  cut(packed, round.out, round.send);
  cut(guests, round.in, round.receive);
  round.send[me] = round.receive[me];
  return group.all_to_all_v(tag(plan, phase), round.send, round.receive);
}

template <class Form>
Pending Dispatch::send_back(DispatchPlan& plan, DispatchRound& round,
                            Phase phase, const Form& form, TensorView back,
                            Arena& scratch) const {
  Communicator& group = ranks_->expert();
  const auto me = static_cast<std::size_t>(group.rank());
  const TensorView packed =
      (wire_ != nullptr ? *wire_ : scratch)
          .allocate(back.dtype(), {round.guests, back.size(1)});
  const std::int64_t own = round.in[me];
  const std::int64_t begin = round.in_begin[me], end = begin + own;
  form(0, begin, packed.slice(0, 0, begin));
  form(begin, own, back.slice(0, round.out_begin[me], own));
  form(end, round.guests - end, packed.slice(0, end, round.guests - end));
  cut(packed, round.in, round.send);
  cut(back, round.out_begin, round.out, round.receive);
  round.send[me] = round.receive[me];
  return group.all_to_all_v(tag(plan, phase), round.send, round.receive);
}

Pending Dispatch::dispatch(DispatchPlan& plan, DispatchRound& round,
                           Arena& scratch) const {
  if (ranks_ == nullptr) {
    round.x = plan.x;
    return {};
  }
  enter(plan, round);
  const Shape choices{round.guests, plan.top_k};
  round.index = scratch.allocate(DType::kInt32, choices);
  round.weight = scratch.allocate(plan.weight.dtype(), choices);
  round.x = scratch.allocate(ranks_->rules().row_type(plan.x.dtype()),
                             {round.guests, plan.x.size(1)});
  cut(plan.kept, round.out_begin, round.out, round.send);
  cut(round.index, round.in, round.receive);
  round.index_sent = ranks_->expert().all_to_all_v(tag(plan, Phase::kPlan),
                                                   round.send, round.receive);
  round.weight_sent =
      send_out(plan, round, Phase::kPlan, plan.weight, round.weight, scratch);
  return send_out(plan, round, Phase::kDispatch, plan.x, round.x, scratch);
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
  round.received = keep.allocate(plan.x.dtype(), {round.rows, round.x.size(1)});
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
  return send_back(plan, round, Phase::kCombine, form, plan.back, scratch);
}

void Dispatch::add_results(DispatchPlan& plan, TensorView result,
                           TensorView out, bool accumulate,
                           TensorView residual) const {
  const bool alone = ranks_ == nullptr;
  (*kernels_)(CombineRows{.source = alone ? result : plan.back,
                          .index = alone ? plan.main.place : plan.returned,
                          .weight = alone ? plan.weight : TensorView(),
                          .residual = residual,
                          .out = out,
                          .accumulate = accumulate});
}

void Dispatch::plan_gradient(DispatchPlan& plan, TensorView d_out,
                             Arena& scratch) const {
  plan.d = d_out;
  if (ranks_ == nullptr) return;
  const std::int64_t copies = sum(plan.copies);
  plan.back = scratch.allocate(ranks_->rules().sum_type(d_out.dtype()),
                               {copies, d_out.size(1)});
  plan.back_weight =
      scratch.allocate(plan.weight.dtype(), {copies, plan.top_k});
  if (plan.rounds > 1) partition(plan, scratch);
}

Pending Dispatch::combine_gradient(DispatchPlan& plan, DispatchRound& round,
                                   Arena& scratch) const {
  if (ranks_ == nullptr) {
    round.d = plan.d;
    return {};
  }
  round.d = scratch.allocate(ranks_->rules().row_type(plan.d.dtype()),
                             {round.guests, plan.d.size(1)});
  return send_out(plan, round, Phase::kCombineGradient, plan.d, round.d,
                  scratch);
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
  round.weight_sent = send_back(plan, round, Phase::kDispatchGradient,
                                form_weights, plan.back_weight, scratch);
  return send_back(plan, round, Phase::kDispatchGradient, form, plan.back,
                   scratch);
}

void Dispatch::add_gradients(DispatchPlan& plan, TensorView d_received,
                             TensorView d_received_weight, TensorView d_x,
                             bool accumulate, TensorView residual,
                             TensorView d_weight) const {
  const bool alone = ranks_ == nullptr;
  if (!alone) wait(plan.main.weight_sent);
  (*kernels_)(CombineRows{.source = alone ? d_received : plan.back,
                          .index = alone ? plan.main.place : plan.returned,
                          .weight = {},
                          .residual = residual,
                          .out = d_x,
                          .accumulate = accumulate});
  const std::int64_t choices = plan.tokens * plan.top_k;
  const TensorView weights = alone ? d_received_weight : plan.back_weight;
  (*kernels_)(GatherRows{
      .source = weights.reshape({weights.elements(), 1}),
      .index = (alone ? plan.main.place : plan.chosen).reshape({choices}),
      .out = d_weight.reshape({choices, 1})});
}

}  // namespace catena
