#include "parallel/dispatch.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace catena {
namespace {

std::int64_t sum(const std::vector<std::int64_t>& counts) {
  return std::accumulate(counts.begin(), counts.end(), std::int64_t{0});
}

std::int64_t begin_of(const std::vector<std::int64_t>& counts, int rank) {
  return std::accumulate(counts.begin(), counts.begin() + rank,
                         std::int64_t{0});
}

/// Runs of rows that lie one after another, one a rank.
void cut(TensorView rows, const std::vector<std::int64_t>& counts,
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
                    Arena& keep, DispatchPlan& plan) const {
  const std::int64_t choices = index.elements();
  plan.offsets = keep.allocate(DType::kInt32, {experts + 1});
  plan.place = keep.allocate(DType::kInt32, index.shape());
  plan.entry = keep.allocate(DType::kInt32, {choices});
  plan.row = keep.allocate(DType::kInt32, {choices});
  (*kernels_)(GroupRows{
      .index = index,
      .map = ranks_ != nullptr ? ranks_->local(tag_.layer) : TensorView(),
      .offsets = plan.offsets,
      .place = plan.place,
      .entry = plan.entry,
      .row = plan.row});
  if (ranks_ != nullptr && !modelled()) {
    std::int32_t last = 0;
    ranks_->backend().copy_to_host(
        &last, plan.offsets.as<std::int32_t>() + experts, sizeof last);
    rows = last;
  }
  plan.rows = rows;
  plan.entry = plan.entry.slice(0, 0, rows);
  plan.row = plan.row.slice(0, 0, rows);
}

Task Dispatch::plan(FrameMemory&, TensorView index, TensorView weight,
                    std::int64_t experts, std::int64_t iteration, Arena& keep,
                    Arena& scratch, DispatchPlan& plan) const& {
  plan.tokens = index.size(0);
  plan.top_k = index.size(1);
  plan.tag = tag_;
  plan.tag.iteration = static_cast<std::int16_t>(iteration);
  if (ranks_ == nullptr) {
    plan.guests = plan.tokens;
    plan.weight = weight;
    sort(index, experts, index.elements(), keep, plan);
    co_return;
  }
  Communicator& group = ranks_->expert();
  const std::int64_t size = group.size();
  const std::int64_t most = std::min(size, plan.top_k);
  const TensorView counts = scratch.allocate(DType::kInt32, {size, size});
  const TensorView kept =
      scratch.allocate(DType::kInt32, {plan.tokens * most, plan.top_k});
  plan.copied = keep.allocate(DType::kInt32, {plan.tokens * most});
  plan.returned = keep.allocate(DType::kInt32, {plan.tokens, most});
  plan.chosen = keep.allocate(DType::kInt32, {plan.tokens, plan.top_k});
  (*kernels_)(PartitionRows{.index = index,
                            .owner = ranks_->server(tag_.layer),
                            .counts = counts.at(group.rank()),
                            .row = plan.copied,
                            .copy = plan.returned,
                            .place = plan.chosen,
                            .kept = kept});
  plan.receive.clear();
  for (std::int64_t r = 0; r < size; ++r) {
    plan.receive.push_back({counts.at(r).data(), counts.at(r).bytes()});
  }
  co_await group.all_gather_v(tag(plan, Phase::kPlan), plan.receive);
  read_counts(counts, plan);
  plan.guests = sum(plan.in);
  plan.copied = plan.copied.slice(0, 0, sum(plan.out));
  const Shape choices{plan.guests, plan.top_k};
  plan.index = scratch.allocate(DType::kInt32, choices);
  plan.weight = scratch.allocate(weight.dtype(), choices);
  cut(kept, plan.out, plan.send);
  cut(plan.index, plan.in, plan.receive);
  plan.index_sent =
      group.all_to_all_v(tag(plan, Phase::kPlan), plan.send, plan.receive);
  plan.weight_sent = send_out(plan, Phase::kPlan, weight, plan.weight, scratch);
}

void Dispatch::read_counts(TensorView counts, DispatchPlan& plan) const {
  const std::int64_t size = counts.size(0), me = ranks_->expert().rank();
  plan.out.resize(static_cast<std::size_t>(size));
  plan.in.resize(static_cast<std::size_t>(size));
  if (modelled()) {
    ModelledRouting* const routing = ranks_->modelled_routing();
    if (routing == nullptr) return balanced_counts(plan);
    plan.rows = routing->count(tag(plan, Phase::kPlan), plan.out, plan.in);
    return;
  }
  for (std::int64_t r = 0; r < size; ++r) {
    std::int32_t out = 0, in = 0;
    Backend& backend = ranks_->backend();
    backend.copy_to_host(&out, counts.at(me).as<std::int32_t>() + r,
                         sizeof out);
    backend.copy_to_host(&in, counts.at(r).as<std::int32_t>() + me, sizeof in);
    plan.out[static_cast<std::size_t>(r)] = out;
    plan.in[static_cast<std::size_t>(r)] = in;
  }
}

bool Dispatch::modelled() const {
  return !ranks_->expert().transport().carries();
}

// Of n experts a rank serves some; none of k different ones is among these
// with probability prod (n - served - i) / (n - i). Other ranks have as many
// tokens as this one.
void Dispatch::balanced_counts(DispatchPlan& plan) const {
  const Placement& placement = ranks_->placements()[tag_.layer];
  const auto experts = static_cast<double>(placement.experts());
  const auto tokens = static_cast<double>(plan.tokens);
  const auto copies = [&](int rank, int home) {
    const auto served = static_cast<double>(placement.served(rank, home));
    double none = 1;
    for (std::int64_t i = 0; i < plan.top_k; ++i) {
      const auto drawn = static_cast<double>(i);
      none *= std::max(0.0, experts - served - drawn) / (experts - drawn);
    }
    return static_cast<std::int64_t>(std::ceil(tokens * (1 - none)));
  };
  const int me = ranks_->expert().rank();
  double rows = 0;
  std::int64_t room = plan.copied.elements();
  for (int r = 0; r < ranks_->expert().size(); ++r) {
    const std::int64_t out = std::min(copies(r, me), room);
    plan.out[static_cast<std::size_t>(r)] = out;
    room -= out;
    plan.in[static_cast<std::size_t>(r)] = copies(me, r);
    rows += static_cast<double>(placement.served(me, r)) / experts;
  }
  plan.rows = static_cast<std::int64_t>(
      std::ceil(rows * tokens * static_cast<double>(plan.top_k)));
}

Pending Dispatch::send_out(DispatchPlan& plan, Phase phase, TensorView x,
                           TensorView guests, Arena& scratch) const {
  Communicator& group = ranks_->expert();
  const int me = group.rank();
  const std::int64_t copies = plan.copied.size(0), columns = x.size(1);
  const TensorView packed = scratch.allocate(x.dtype(), {copies, columns});
  const std::int64_t own = plan.out[static_cast<std::size_t>(me)];
  const std::int64_t begin = begin_of(plan.out, me), end = begin + own;
  const TensorView here = guests.slice(0, begin_of(plan.in, me), own);
  const auto gather = [&](std::int64_t from, std::int64_t count,
                          TensorView to) {
    (*kernels_)(GatherRows{
        .source = x, .index = plan.copied.slice(0, from, count), .out = to});
  };
  gather(0, begin, packed.slice(0, 0, begin));
  gather(begin, own, here);
  gather(end, copies - end, packed.slice(0, end, copies - end));
  cut(packed, plan.out, plan.send);
  cut(guests, plan.in, plan.receive);
  const auto at = static_cast<std::size_t>(me);
  plan.send[at] = plan.receive[at];
  return group.all_to_all_v(tag(plan, phase), plan.send, plan.receive);
}

template <class Form>
Pending Dispatch::send_back(DispatchPlan& plan, Phase phase, const Form& form,
                            TensorView back, Arena& scratch) const {
  Communicator& group = ranks_->expert();
  const int me = group.rank();
  const TensorView packed =
      scratch.allocate(back.dtype(), {plan.guests, back.size(1)});
  const std::int64_t own = plan.in[static_cast<std::size_t>(me)];
  const std::int64_t begin = begin_of(plan.in, me), end = begin + own;
  form(0, begin, packed.slice(0, 0, begin));
  form(begin, own, back.slice(0, begin_of(plan.out, me), own));
  form(end, plan.guests - end, packed.slice(0, end, plan.guests - end));
  cut(packed, plan.in, plan.send);
  cut(back, plan.out, plan.receive);
  const auto at = static_cast<std::size_t>(me);
  plan.send[at] = plan.receive[at];
  return group.all_to_all_v(tag(plan, phase), plan.send, plan.receive);
}

Pending Dispatch::dispatch(DispatchPlan& plan, TensorView x,
                           Arena& scratch) const {
  if (ranks_ == nullptr) {
    plan.x = x;
    return {};
  }
  plan.x = scratch.allocate(x.dtype(), {plan.guests, x.size(1)});
  return send_out(plan, Phase::kDispatch, x, plan.x, scratch);
}

void Dispatch::receive(DispatchPlan& plan, Arena& keep) const {
  if (ranks_ != nullptr) {
    wait(plan.index_sent);
    wait(plan.weight_sent);
    sort(plan.index, static_cast<std::int64_t>(ranks_->held(tag_.layer).size()),
         plan.rows, keep, plan);
  }
  plan.received = keep.allocate(plan.x.dtype(), {plan.rows, plan.x.size(1)});
  plan.received_weight = keep.allocate(plan.weight.dtype(), {plan.rows});
  (*kernels_)(
      GatherRows{.source = plan.x, .index = plan.row, .out = plan.received});
  (*kernels_)(
      GatherRows{.source = plan.weight.reshape({plan.guests * plan.top_k, 1}),
                 .index = plan.entry,
                 .out = plan.received_weight.reshape({plan.rows, 1})});
}

Pending Dispatch::combine(DispatchPlan& plan, TensorView result,
                          Arena& scratch) const {
  if (ranks_ == nullptr) return {};
  plan.back =
      scratch.allocate(result.dtype(), {plan.copied.size(0), result.size(1)});
  const auto form = [&](std::int64_t begin, std::int64_t count, TensorView to) {
    (*kernels_)(CombineRows{.source = result,
                            .index = plan.place.slice(0, begin, count),
                            .weight = plan.weight.slice(0, begin, count),
                            .residual = {},
                            .out = to});
  };
  return send_back(plan, Phase::kCombine, form, plan.back, scratch);
}

void Dispatch::add_results(DispatchPlan& plan, TensorView result,
                           TensorView out, bool accumulate,
                           TensorView residual) const {
  const bool alone = ranks_ == nullptr;
  (*kernels_)(CombineRows{.source = alone ? result : plan.back,
                          .index = alone ? plan.place : plan.returned,
                          .weight = alone ? plan.weight : TensorView(),
                          .residual = residual,
                          .out = out,
                          .accumulate = accumulate});
}

Pending Dispatch::combine_gradient(DispatchPlan& plan, TensorView d_out,
                                   Arena& scratch) const {
  if (ranks_ == nullptr) {
    plan.x = d_out;
    return {};
  }
  plan.x = scratch.allocate(d_out.dtype(), {plan.guests, d_out.size(1)});
  return send_out(plan, Phase::kCombineGradient, d_out, plan.x, scratch);
}

void Dispatch::receive_gradient(DispatchPlan& plan, TensorView d_result) const {
  (*kernels_)(GatherRows{.source = plan.x, .index = plan.row, .out = d_result});
}

Pending Dispatch::dispatch_gradient(DispatchPlan& plan, TensorView d_received,
                                    TensorView d_received_weight,
                                    Arena& scratch) const {
  if (ranks_ == nullptr) return {};
  const std::int64_t copies = plan.copied.size(0);
  plan.back =
      scratch.allocate(d_received.dtype(), {copies, d_received.size(1)});
  plan.back_weight =
      scratch.allocate(d_received_weight.dtype(), {copies, plan.top_k});
  const auto form_weights = [&](std::int64_t begin, std::int64_t count,
                                TensorView to) {
    const std::int64_t choices = count * plan.top_k;
    (*kernels_)(GatherRows{
        .source = d_received_weight.reshape({plan.rows, 1}),
        .index = plan.place.slice(0, begin, count).reshape({choices}),
        .out = to.reshape({choices, 1})});
  };
  const auto form = [&](std::int64_t begin, std::int64_t count, TensorView to) {
    (*kernels_)(CombineRows{.source = d_received,
                            .index = plan.place.slice(0, begin, count),
                            .weight = {},
                            .residual = {},
                            .out = to});
  };
  plan.weight_sent = send_back(plan, Phase::kDispatchGradient, form_weights,
                               plan.back_weight, scratch);
  return send_back(plan, Phase::kDispatchGradient, form, plan.back, scratch);
}

void Dispatch::add_gradients(DispatchPlan& plan, TensorView d_received,
                             TensorView d_received_weight, TensorView d_x,
                             bool accumulate, TensorView residual,
                             TensorView d_weight) const {
  const bool alone = ranks_ == nullptr;
  if (!alone) wait(plan.weight_sent);
  (*kernels_)(CombineRows{.source = alone ? d_received : plan.back,
                          .index = alone ? plan.place : plan.returned,
                          .weight = {},
                          .residual = residual,
                          .out = d_x,
                          .accumulate = accumulate});
  const std::int64_t choices = plan.tokens * plan.top_k;
  const TensorView weights = alone ? d_received_weight : plan.back_weight;
  (*kernels_)(
      GatherRows{.source = weights.reshape({weights.elements(), 1}),
                 .index = (alone ? plan.place : plan.chosen).reshape({choices}),
                 .out = d_weight.reshape({choices, 1})});
}

}  // namespace catena
