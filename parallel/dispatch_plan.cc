// What is agreed before rows travel: who gets how many, in which rounds.

#include <algorithm>
#include <cmath>
#include <numeric>

#include "parallel/dispatch.h"

namespace catena {

Task Dispatch::plan(FrameMemory& frames, TensorView x, TensorView index,
                    TensorView weight, std::int64_t experts,
                    std::int64_t iteration, Arena& keep, Arena& scratch,
                    DispatchPlan& plan) const& {
  plan.top_k = index.size(1);
  plan.compute = x.dtype();
  plan.rounds = 1;
  plan.main.number = 0;
  plan.tag = tag_;
  plan.tag.iteration = static_cast<std::int16_t>(iteration);
  plan.tokens = index.size(0);
  plan.x = x;
  plan.index = index;
  plan.weight = weight;
  if (ranks_ == nullptr) {
    plan.main.guests = plan.tokens;
    plan.main.weight = weight;
    sort(index, experts, index.elements(), keep, scratch, plan.main);
    co_return;
  }
  if (crosses()) {
    const Crossing crossing = this->crossing(plan);
    plan.crossing.x = x;
    plan.crossing.index = index;
    plan.crossing.weight = weight;
    co_await crossing.count(plan.crossing, keep, scratch);
    crossing.read(plan.crossing);
    take(plan, crossing.bring(plan.crossing,
                              ranks_->rules().row_type(x.dtype()), scratch));
    plan.crossed = plan.crossing.x_sent;
    co_await plan.crossing.index_sent;
  }
  co_await spread(frames, keep, scratch, plan);
}

void Dispatch::take(DispatchPlan& plan, const Crossing::Guests& guests) {
  plan.tokens = guests.index.size(0);
  plan.x = guests.x;
  plan.index = guests.index;
  plan.weight = guests.weight;
}

Task Dispatch::spread(FrameMemory&, Arena& keep, Arena& scratch,
                      DispatchPlan& plan) const {
  Communicator& node = ranks_->node();
  const std::int64_t size = node.size(), homes = ranks_->expert().size();
  const std::int64_t most = std::min(size, plan.top_k);
  plan.copied = keep.allocate(DType::kInt32, {plan.tokens * most});
  plan.returned = keep.allocate(DType::kInt32, {plan.tokens, most});
  plan.chosen = keep.allocate(DType::kInt32, {plan.tokens, plan.top_k});
  partition(plan, scratch);
  plan.receive.clear();
  for (std::int64_t home = 0; home < homes; ++home) {
    plan.receive.push_back(
        {plan.counts.at(home).data(), plan.counts.at(home).bytes()});
  }
  // All nodes' ranks, since all have as many rounds.
  co_await ranks_->expert().all_gather_v(tag(plan, Phase::kPlan), plan.receive);
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
    co_await node.all_to_all_v(tag(plan, Phase::kPlan), plan.send,
                               plan.receive);
  }
  plan.back = scratch.allocate(
      ranks_->rules().sum_type(plan.compute),
      {std::accumulate(plan.copies.begin(), plan.copies.end(), std::int64_t{0}),
       plan.x.size(1)});
}

void Dispatch::partition(DispatchPlan& plan, Arena& scratch) const {
  const std::int64_t size = ranks_->node().size();
  const std::int64_t most = plan.tokens * std::min(size, plan.top_k);
  plan.counts =
      scratch.allocate(DType::kInt32, {ranks_->expert().size(), 2, size});
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

std::int64_t Dispatch::rows_to(const DispatchPlan& plan, int node, int rank,
                               int homes) const {
  const int size = ranks_->node().size();
  std::int64_t rows = 0;
  for (int home = node * size; home < node * size + homes; ++home) {
    rows += plan.table[static_cast<std::size_t>((2 * home + 1) * size + rank)];
  }
  return rows;
}

void Dispatch::read_counts(DispatchPlan& plan) const {
  const int size = ranks_->node().size(), me = ranks_->node().rank();
  const int homes = ranks_->expert().size(), home = ranks_->expert().rank();
  const int node = home / size;
  plan.copies.resize(static_cast<std::size_t>(size));
  plan.coming.resize(static_cast<std::size_t>(size));
  if (modelled()) return model(plan);
  plan.table.resize(static_cast<std::size_t>(plan.counts.elements()));
  ranks_->backend().copy_to_host(plan.table.data(), plan.counts.data(),
                                 plan.table.size() * sizeof plan.table[0]);
  const DispatchRules& rules = ranks_->rules();
  for (int to = 0; to < homes; ++to) {
    plan.rounds = std::max(
        plan.rounds,
        rules.rounds(rows_to(plan, to / size, to % size, size), plan.top_k));
  }
  for (int r = 0; r < size; ++r) {
    const auto at = static_cast<std::size_t>(r);
    const int other = node * size + r;
    plan.copies[at] = plan.table[static_cast<std::size_t>(2 * home * size + r)];
    plan.coming[at] =
        plan.table[static_cast<std::size_t>(2 * other * size + me)];
  }
  const std::int64_t beyond =
      rows_to(plan, node, me, size) - rules.budget(plan.top_k);
  ranks_->count_rounds(plan.rounds - 1, std::max<std::int64_t>(0, beyond));
}

void Dispatch::cut_rounds(DispatchPlan& plan) const {
  const int size = ranks_->node().size(), me = ranks_->node().rank();
  const int node = ranks_->expert().rank() / size;
  const std::int32_t* before = plan.before.as<std::int32_t>();
  for (int r = 0; r < size; ++r) {
    const DispatchRules::Copies copies{
        .count = plan.copies[static_cast<std::size_t>(r)],
        .before = before,
        .base = rows_to(plan, node, r, me),
        .rows = rows_to(plan, node, r, size)};
    ranks_->rules().cut(ranks_->backend(), copies, plan.top_k, plan.rounds,
                        plan.sent_ends.at(r).as<std::int32_t>());
    before += copies.count;
  }
}

void Dispatch::enter(const DispatchPlan& plan, DispatchRound& round) const {
  const auto size = static_cast<std::size_t>(ranks_->node().size());
  RowRuns& runs = round.runs;
  runs.resize(ranks_->node().size());
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
    runs.out[r] = plan.copies[r];
    runs.in[r] = plan.coming[r];
    if (plan.rounds > 1) {
      begin = begins_at_0 ? 0 : sent(r, round.number - 1);
      runs.out[r] = sent(r, round.number) - begin;
      runs.in[r] = received(r, round.number) -
                   (begins_at_0 ? 0 : received(r, round.number - 1));
    }
    runs.out_begin[r] = copy + begin;
    runs.in_begin[r] = guest;
    copy += plan.copies[r];
    guest += runs.in[r];
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

// No rank is sent more than all tokens, or holds more than the most; relays of
// a node have taken in those of all its nodes.
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
  const auto me = static_cast<std::size_t>(ranks_->node().rank());
  counts.sent_ends[me] = own;
  counts.received_ends[me] = own;
  // One rank stands for all others: sizes are what counts.
  const std::size_t other = me == 0 ? 1 : 0;
  counts.sent_ends[other] = copies - own;
  counts.received_ends[other] = guests - own;
}

// Other ranks have as many tokens as this one. A relay's are those of its whole
// rail.
void Dispatch::expect_balanced(DispatchPlan& plan) const {
  const Placement& placement = ranks_->placements()[tag_.layer];
  const Mesh& mesh = ranks_->mesh();
  const int size = mesh.node(), place = ranks_->node().rank();
  const int me = ranks_->expert().rank(), node = me / size;
  const std::int64_t tokens =
      crosses() ? plan.crossing.index.size(0) : plan.tokens;
  // Copies that go to `rank` by way of the relay at `at`, and their rows.
  const auto copies = [&](int rank, int at) {
    std::int64_t sum = 0;
    for (int home = at; home < mesh.expert; home += size) {
      sum += balanced_copies(tokens, plan.top_k,
                             placement.served(rank, home, mesh.of_node()),
                             placement.experts());
    }
    return sum;
  };
  ModelledCounts& counts = plan.modelled;
  std::int64_t served = 0;
  for (int home = 0; home < mesh.expert; ++home) {
    served += placement.served(me, home, mesh.of_node());
  }
  std::int64_t room = plan.copied.elements();
  for (int r = 0; r < size; ++r) {
    const auto at = static_cast<std::size_t>(r);
    counts.sent_ends[at] = std::min(copies(node * size + r, place), room);
    room -= counts.sent_ends[at];
    counts.received_ends[at] =
        r == place ? counts.sent_ends[at] : copies(me, r);
  }
  counts.rounds = 1;
  counts.alike = false;
  counts.rows[0] = static_cast<std::int64_t>(
      std::ceil(static_cast<double>(served * tokens * plan.top_k) /
                static_cast<double>(placement.experts())));
}

}  // namespace catena
