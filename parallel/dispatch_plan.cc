// What is agreed before rows travel: who gets how many, in which rounds.

#include <algorithm>
#include <cmath>
#include <numeric>

#include "parallel/dispatch.h"

namespace catena {

Task Dispatch::plan(FrameMemory&, TensorView x, TensorView index,
                    TensorView weight, std::int64_t experts,
                    std::int64_t iteration, Arena& keep, Arena& scratch,
                    DispatchPlan& plan) const& {
  plan.tokens = index.size(0);
  plan.top_k = index.size(1);
  plan.rounds = 1;
  plan.main.number = 0;
  plan.tag = tag_;
  plan.tag.iteration = static_cast<std::int16_t>(iteration);
  plan.x = x;
  plan.index = index;
  plan.weight = weight;
  if (ranks_ == nullptr) {
    plan.main.guests = plan.tokens;
    plan.main.weight = weight;
    sort(index, experts, index.elements(), keep, scratch, plan.main);
    co_return;
  }
  Communicator& group = ranks_->expert();
  const std::int64_t size = group.size();
  const std::int64_t most = std::min(size, plan.top_k);
  plan.copied = keep.allocate(DType::kInt32, {plan.tokens * most});
  plan.returned = keep.allocate(DType::kInt32, {plan.tokens, most});
  plan.chosen = keep.allocate(DType::kInt32, {plan.tokens, plan.top_k});
  partition(plan, scratch);
  plan.receive.clear();
  for (std::int64_t r = 0; r < size; ++r) {
    plan.receive.push_back(
        {plan.counts.at(r).data(), plan.counts.at(r).bytes()});
  }
  co_await group.all_gather_v(tag(plan, Phase::kPlan), plan.receive);
  read_counts(plan);
  if (plan.rounds > 1) {
    plan.sent_ends = keep.allocate(DType::kInt32, {size, plan.rounds});
    plan.received_ends = keep.allocate(DType::kInt32, {size, plan.rounds});
    if (!modelled()) cut_rounds(plan);
    plan.send.clear();
    plan.receive.clear();
    for (std::int64_t r = 0; r < size; ++r) {
      const TensorView sent = plan.sent_ends.at(r);
      const TensorView received = plan.received_ends.at(r);
      plan.send.push_back({sent.data(), sent.bytes()});
      plan.receive.push_back({received.data(), received.bytes()});
    }
    co_await group.all_to_all_v(tag(plan, Phase::kPlan), plan.send,
                                plan.receive);
  }
  plan.back = scratch.allocate(
      ranks_->rules().sum_type(x.dtype()),
      {std::accumulate(plan.copies.begin(), plan.copies.end(), std::int64_t{0}),
       x.size(1)});
}

void Dispatch::partition(DispatchPlan& plan, Arena& scratch) const {
  const std::int64_t size = ranks_->expert().size();
  const std::int64_t most = plan.tokens * std::min(size, plan.top_k);
  plan.counts = scratch.allocate(DType::kInt32, {size, 2, size});
  plan.kept = scratch.allocate(DType::kInt32, {most, plan.top_k});
  plan.before = scratch.allocate(DType::kInt32, {most});
  (*kernels_)(PartitionRows{.index = plan.index,
                            .owner = ranks_->server(tag_.layer),
                            .counts = plan.counts.at(ranks_->expert().rank()),
                            .row = plan.copied,
                            .before = plan.before,
                            .copy = plan.returned,
                            .place = plan.chosen,
                            .kept = plan.kept});
}

std::int64_t Dispatch::rows_to(const DispatchPlan& plan, int rank,
                               int homes) const {
  const int size = ranks_->expert().size();
  std::int64_t rows = 0;
  for (int home = 0; home < homes; ++home) {
    rows += plan.table[static_cast<std::size_t>((2 * home + 1) * size + rank)];
  }
  return rows;
}

void Dispatch::read_counts(DispatchPlan& plan) const {
  const int size = ranks_->expert().size(), me = ranks_->expert().rank();
  const auto count = static_cast<std::size_t>(size);
  plan.copies.resize(count);
  plan.coming.resize(count);
  if (modelled()) return model(plan);
  plan.table.resize(2 * count * count);
  ranks_->backend().copy_to_host(plan.table.data(), plan.counts.data(),
                                 plan.table.size() * sizeof plan.table[0]);
  const DispatchRules& rules = ranks_->rules();
  for (int r = 0; r < size; ++r) {
    const auto at = static_cast<std::size_t>(r);
    plan.copies[at] = plan.table[static_cast<std::size_t>(2 * me * size + r)];
    plan.coming[at] = plan.table[static_cast<std::size_t>(2 * r * size + me)];
    plan.rounds =
        std::max(plan.rounds, rules.rounds(rows_to(plan, r, size), plan.top_k));
  }
  const std::int64_t beyond =
      rows_to(plan, me, size) - rules.budget(plan.top_k);
  ranks_->count_rounds(plan.rounds - 1, std::max<std::int64_t>(0, beyond));
}

void Dispatch::cut_rounds(DispatchPlan& plan) const {
  const int size = ranks_->expert().size(), me = ranks_->expert().rank();
  const std::int32_t* before = plan.before.as<std::int32_t>();
  for (int r = 0; r < size; ++r) {
    const DispatchRules::Copies copies{
        .count = plan.copies[static_cast<std::size_t>(r)],
        .before = before,
        .base = rows_to(plan, r, me),
        .rows = rows_to(plan, r, size)};
    ranks_->rules().cut(ranks_->backend(), copies, plan.top_k, plan.rounds,
                        plan.sent_ends.at(r).as<std::int32_t>());
    before += copies.count;
  }
}

void Dispatch::enter(const DispatchPlan& plan, DispatchRound& round) const {
  const auto size = static_cast<std::size_t>(ranks_->expert().size());
  for (auto* values :
       {&round.out, &round.out_begin, &round.in, &round.in_begin}) {
    values->resize(size);
  }
  const auto read = [&](TensorView ends, std::size_t r, std::int64_t number) {
    std::int32_t value = 0;
    ranks_->backend().copy_to_host(
        &value,
        ends.at(static_cast<std::int64_t>(r)).as<std::int32_t>() + number,
        sizeof value);
    return std::int64_t{value};
  };
  const auto sent = [&](std::size_t r, std::int64_t number) {
    return modelled() ? plan.modelled.sent(r, number)
                      : read(plan.sent_ends, r, number);
  };
  const auto received = [&](std::size_t r, std::int64_t number) {
    return modelled() ? plan.modelled.received(r, number)
                      : read(plan.received_ends, r, number);
  };
  const bool begins_at_0 =
      round.number == 0 || (modelled() && plan.modelled.alike);
  std::int64_t copy = 0, guest = 0;
  for (std::size_t r = 0; r < size; ++r) {
    std::int64_t begin = 0;
    round.out[r] = plan.copies[r];
    round.in[r] = plan.coming[r];
    if (plan.rounds > 1) {
      begin = begins_at_0 ? 0 : sent(r, round.number - 1);
      round.out[r] = sent(r, round.number) - begin;
      round.in[r] = received(r, round.number) -
                    (begins_at_0 ? 0 : received(r, round.number - 1));
    }
    round.out_begin[r] = copy + begin;
    round.in_begin[r] = guest;
    copy += plan.copies[r];
    guest += round.in[r];
  }
  round.guests = guest;
}

bool Dispatch::modelled() const {
  return !ranks_->expert().transport().carries();
}

void Dispatch::model(DispatchPlan& plan) const {
  ModelledCounts& counts = plan.modelled;
  const std::size_t size = plan.copies.size();
  if (ModelledRouting* const routing = ranks_->modelled_routing()) {
    routing->count(tag(plan, Phase::kPlan), counts);
  } else {
    counts.sent_ends.assign(size, 0);
    counts.received_ends.assign(size, 0);
    counts.rows.resize(1);
    ranks_->expects_worst() ? expect_worst(plan) : expect_balanced(plan);
  }
  plan.rounds = counts.rounds;
  for (std::size_t r = 0; r < size; ++r) {
    plan.copies[r] = counts.sent(r, counts.rounds - 1);
    plan.coming[r] = counts.received(r, counts.rounds - 1);
  }
}

// No rank is sent more than all tokens, or holds more than the most.
void Dispatch::expect_worst(DispatchPlan& plan) const {
  const DispatchRules& rules = ranks_->rules();
  const auto size = static_cast<std::int64_t>(plan.copies.size());
  const std::int64_t tokens = size * plan.tokens;
  const std::int64_t all = tokens * std::min(plan.top_k, ranks_->most_held());
  const std::int64_t rows = std::min(all, rules.budget(plan.top_k));
  const std::int64_t guests = std::min(tokens, rows);
  const std::int64_t own = std::min(plan.tokens, guests);
  const std::int64_t copies = plan.copied.elements();
  ModelledCounts& counts = plan.modelled;
  counts.rounds = rules.rounds(all, plan.top_k);
  counts.alike = true;
  counts.rows[0] = rows;
  const auto me = static_cast<std::size_t>(ranks_->expert().rank());
  counts.sent_ends[me] = own;
  counts.received_ends[me] = own;
  // One rank stands for all others: sizes are what counts.
  const std::size_t other = me == 0 ? 1 : 0;
  counts.sent_ends[other] = copies - own;
  counts.received_ends[other] = guests - own;
}

// Of n experts a rank serves some; none of k different ones is among these
// with probability prod (n - served - i) / (n - i). Other ranks have as many
// tokens as this one.
void Dispatch::expect_balanced(DispatchPlan& plan) const {
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
  ModelledCounts& counts = plan.modelled;
  const int me = ranks_->expert().rank();
  double rows = 0;
  std::int64_t room = plan.copied.elements();
  for (int r = 0; r < ranks_->expert().size(); ++r) {
    const std::int64_t out = std::min(copies(r, me), room);
    counts.sent_ends[static_cast<std::size_t>(r)] = out;
    room -= out;
    counts.received_ends[static_cast<std::size_t>(r)] = copies(me, r);
    rows += static_cast<double>(placement.served(me, r)) / experts;
  }
  counts.rounds = 1;
  counts.alike = false;
  counts.rows[0] = static_cast<std::int64_t>(
      std::ceil(rows * tokens * static_cast<double>(plan.top_k)));
}

}  // namespace catena
