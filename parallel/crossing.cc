#include "parallel/crossing.h"

#include <algorithm>
#include <numeric>

namespace catena {

Tag Crossing::tag(Phase phase) const {
  Tag tag = tag_;
  tag.phase = phase;
  return tag;
}

void Crossing::partition(CrossingPlan& plan, Arena& scratch) const {
  const std::int64_t most = plan.copied.elements();
  plan.kept = scratch.allocate(DType::kInt32, {most, plan.index.size(1)});
  (*kernels_)(PartitionRows{.index = plan.index,
                            .owner = ranks_->node_server(tag_.layer),
                            .counts = plan.counts.slice(0, 0, 2),
                            .row = plan.copied,
                            .before = scratch.allocate(DType::kInt32, {most}),
                            .copy = plan.returned,
                            .place = plan.chosen,
                            .kept = plan.kept});
}

Pending Crossing::count(CrossingPlan& plan, Arena& keep, Arena& scratch) const {
  const std::int64_t nodes = ranks_->rail()->size();
  const std::int64_t tokens = plan.index.size(0), top_k = plan.index.size(1);
  const std::int64_t most = std::min(nodes, top_k);
  plan.copied = keep.allocate(DType::kInt32, {tokens * most});
  plan.returned = keep.allocate(DType::kInt32, {tokens, most});
  plan.chosen = keep.allocate(DType::kInt32, {tokens, top_k});
  plan.counts = scratch.allocate(DType::kInt32, {3, nodes});
  partition(plan, scratch);
  const TensorView to = plan.counts.at(0), from = plan.counts.at(2);
  RowRuns& runs = plan.runs;
  runs.send.clear();
  runs.receive.clear();
  for (std::int64_t node = 0; node < nodes; ++node) {
    constexpr std::int64_t kBytes = sizeof(std::int32_t);
    runs.send.push_back({to.as<std::int32_t>() + node, kBytes});
    runs.receive.push_back({from.as<std::int32_t>() + node, kBytes});
  }
  return ranks_->rail()->all_to_all_v(tag(Phase::kPlan), runs.send,
                                      runs.receive);
}

void Crossing::read(CrossingPlan& plan) const {
  RowRuns& runs = plan.runs;
  const int nodes = ranks_->rail()->size();
  runs.resize(nodes);
  if (ranks_->rail()->transport().carries()) {
    plan.table.resize(static_cast<std::size_t>(plan.counts.elements()));
    ranks_->backend().copy_to_host(plan.table.data(), plan.counts.data(),
                                   plan.table.size() * sizeof plan.table[0]);
    for (int node = 0; node < nodes; ++node) {
      const auto at = static_cast<std::size_t>(node);
      runs.out[at] = plan.table[at];
      runs.in[at] = plan.table[at + 2 * static_cast<std::size_t>(nodes)];
    }
  } else if (ModelledRouting* const routing = ranks_->modelled_routing()) {
    routing->count_crossing(tag(Phase::kPlan), runs.out, runs.in);
  } else {
    ranks_->expects_worst() ? expect_worst(plan) : expect_balanced(plan);
  }
  std::exclusive_scan(runs.out.begin(), runs.out.end(), runs.out_begin.begin(),
                      std::int64_t{0});
  std::exclusive_scan(runs.in.begin(), runs.in.end(), runs.in_begin.begin(),
                      std::int64_t{0});
}

Crossing::Guests Crossing::bring(CrossingPlan& plan, DType type,
                                 Arena& scratch) const {
  RowRuns& runs = plan.runs;
  const Shape choices{runs.guests(), plan.index.size(1)};
  const Guests guests{
      .x = scratch.allocate(type, {runs.guests(), plan.x.size(1)}),
      .index = scratch.allocate(DType::kInt32, choices),
      .weight = scratch.allocate(plan.weight.dtype(), choices)};
  const RowExchange counts = exchange(Phase::kPlan);
  plan.index_sent = counts.out(runs, plan.kept, guests.index);
  plan.weight_sent =
      counts.out(runs, plan.weight, plan.copied, guests.weight, scratch);
  plan.x_sent = exchange(Phase::kDispatch)
                    .out(runs, plan.x, plan.copied, guests.x, scratch);
  return guests;
}

Crossing::Guests Crossing::bring_again(CrossingPlan& plan, DType type,
                                       Arena& scratch) const {
  plan.counts = scratch.allocate(DType::kInt32, plan.counts.shape());
  partition(plan, scratch);
  return bring(plan, type, scratch);
}

TensorView Crossing::bring_gradient(CrossingPlan& plan, TensorView d,
                                    DType type, Arena& scratch) const {
  const TensorView guests =
      scratch.allocate(type, {plan.runs.guests(), d.size(1)});
  plan.d_sent = exchange(Phase::kCombineGradient)
                    .out(plan.runs, d, plan.copied, guests, scratch);
  return guests;
}

Pending Crossing::return_rows(CrossingPlan& plan, Phase phase, TensorView rows,
                              Arena& scratch) const {
  plan.back =
      scratch.allocate(rows.dtype(), {plan.runs.copies(), rows.size(1)});
  return exchange(phase).back(plan.runs, rows, plan.back);
}

void Crossing::return_weights(CrossingPlan& plan, TensorView weights,
                              Arena& scratch) const {
  plan.back_weight =
      scratch.allocate(weights.dtype(), {plan.runs.copies(), weights.size(1)});
  plan.weight_sent = exchange(Phase::kDispatchGradient)
                         .back(plan.runs, weights, plan.back_weight);
}

// Every token goes to as many nodes as it can, and all come here.
void Crossing::expect_worst(CrossingPlan& plan) const {
  const std::int64_t tokens = plan.index.size(0);
  const auto me = static_cast<std::size_t>(ranks_->rail()->rank());
  // One node stands for all others: sizes are what counts.
  const std::size_t other = me == 0 ? 1 : 0;
  RowRuns& runs = plan.runs;
  std::fill(runs.out.begin(), runs.out.end(), 0);
  std::fill(runs.in.begin(), runs.in.end(), 0);
  runs.out[me] = tokens;
  runs.out[other] = plan.copied.elements() - tokens;
  runs.in[me] = tokens;
  runs.in[other] = tokens * (ranks_->rail()->size() - 1);
}

void Crossing::expect_balanced(CrossingPlan& plan) const {
  const Placement& placement = ranks_->placements()[tag_.layer];
  const int of_node = ranks_->mesh().node(), place = ranks_->node().rank();
  const std::int64_t tokens = plan.index.size(0), top_k = plan.index.size(1);
  const auto copies = [&](int node, int home_node) {
    std::int64_t served = 0;
    for (int rank = node * of_node; rank < (node + 1) * of_node; ++rank) {
      served += placement.served(rank, home_node * of_node + place, of_node);
    }
    return balanced_copies(tokens, top_k, served, placement.experts());
  };
  const int me = ranks_->rail()->rank();
  std::int64_t room = plan.copied.elements();
  for (int node = 0; node < ranks_->rail()->size(); ++node) {
    const auto at = static_cast<std::size_t>(node);
    plan.runs.out[at] = std::min(copies(node, me), room);
    room -= plan.runs.out[at];
    plan.runs.in[at] = node == me ? plan.runs.out[at] : copies(me, node);
  }
}

}  // namespace catena
