#include "layers/chain.h"

namespace catena {

Dispatch Chain::exchange(Chunk& chunk) const {
  return {chunk.kernels(), ranks_,
          Tag{.layer = static_cast<std::int16_t>(layer_),
              .chunk = static_cast<std::int16_t>(chunk.number)},
          &chunk.wire};
}

Task Chain::forward(Chunk& chunk, TensorView x, TensorView out,
                    const RoutingStatistics& statistics, Saved& saved) const {
  const Dispatch exchange = this->exchange(chunk);
  const Shape shape{chunk.tokens, hidden_};
  saved.iterations.resize(static_cast<std::size_t>(config_.iterations));
  for (std::int64_t t = 0; t < config_.iterations; ++t) {
    Iteration& it = saved.iterations[static_cast<std::size_t>(t)];
    const bool last = t + 1 == config_.iterations;
    const TensorView y = last ? out : chunk.keep(chunk.compute(), shape);
    it.x = x;
    const ArenaScope scope(chunk.scratch);
    const ArenaScope on_wire(chunk.wire);

    router(t).forward(chunk, layer_, t, x, statistics.cell(layer_, t),
                      it.routes);
    DispatchRound& rows = it.plan.main;
    co_await exchange.plan(chunk, x, it.routes.index, it.routes.weights,
                           config_.routed_experts, t, chunk.activations,
                           chunk.scratch, it.plan);
    // Behind the slower way: between nodes, where they are crossed.
    const bool crosses = exchange.crosses();
    if (crosses) {
      if (shared_) shared_->forward(chunk, x, y, it.shared);
      co_await it.plan.crossed;
    }
    if (it.plan.rounds > 1) {
      co_await forward_later(chunk, exchange, it.plan, saved);
    }
    const Pending sent = exchange.dispatch(it.plan, rows, chunk.scratch);
    if (shared_ && !crosses) shared_->forward(chunk, x, y, it.shared);
    co_await sent;
    exchange.receive(it.plan, rows, chunk.activations, chunk.scratch);

    const TensorView result =
        chunk.temporary(chunk.compute(), rows.received.shape());
    experts_->forward(chunk, rows.received, rows.offsets, result, it.experts,
                      chunk.activations);
    co_await exchange.combine(it.plan, rows, result, chunk.scratch);
    if (crosses) co_await exchange.return_results(it.plan, chunk.scratch);
    exchange.add_results(it.plan, result, y, shared_ != nullptr,
                         config_.inner_residual() ? x : TensorView());

    if (chunk.training && t > 0) {
      chunk.kernels()(PairCounts{
          .first =
              saved.iterations[static_cast<std::size_t>(t - 1)].routes.index,
          .second = it.routes.index,
          .counts = statistics.cell(layer_, t - 1).transitions});
    }
    if (chunk.observer != nullptr) {
      chunk.computed(fmt::format("{}.{}.output", name_, t), y);
    }
    x = y;
  }
}

Task Chain::forward_later(Chunk& chunk, const Dispatch& exchange,
                          DispatchPlan& plan, Saved& saved) const {
  DispatchRound& rows = saved.later;
  for (rows.number = 1; rows.number < plan.rounds; ++rows.number) {
    const ArenaScope scope(chunk.scratch);
    const ArenaScope on_wire(chunk.wire);
    co_await exchange.dispatch(plan, rows, chunk.scratch);
    exchange.receive(plan, rows, chunk.scratch, chunk.scratch);
    const TensorView result =
        chunk.temporary(chunk.compute(), rows.received.shape());
    experts_->forward(chunk, rows.received, rows.offsets, result,
                      saved.later_experts, chunk.scratch);
    co_await exchange.combine(plan, rows, result, chunk.scratch);
  }
}

Task Chain::backward_later(Chunk& chunk, const Dispatch& exchange,
                           DispatchPlan& plan, Saved& saved) const {
  DispatchRound& rows = saved.later;
  Experts::Terms& terms = saved.later_terms;
  terms.clear();
  exchange.plan_later(plan, chunk.scratch);
  for (rows.number = 1; rows.number < plan.rounds; ++rows.number) {
    const ArenaScope scope(chunk.scratch);
    const ArenaScope on_wire(chunk.wire);
    const Pending sent = exchange.dispatch(plan, rows, chunk.scratch);
    const Pending sent_gradient =
        exchange.combine_gradient(plan, rows, chunk.scratch);
    co_await sent;
    exchange.receive(plan, rows, chunk.scratch, chunk.scratch);
    experts_->expand(chunk, rows.received, rows.offsets, saved.later_experts,
                     chunk.scratch);
    co_await sent_gradient;
    const DType compute = chunk.compute();
    const Shape shape = rows.received.shape();
    const TensorView d_result = chunk.temporary(compute, shape);
    const TensorView d_received = chunk.temporary(compute, shape);
    const TensorView d_activation =
        chunk.temporary(compute, {rows.rows, experts_->intermediate()});
    const TensorView d_weight = chunk.temporary(chunk.wide(), {rows.rows});
    exchange.receive_gradient(rows, d_result);
    experts_->backward(chunk, rows.received, rows.offsets, saved.later_experts,
                       rows.received_weight, d_result, d_activation, d_received,
                       d_weight, terms);
    const Pending back = exchange.dispatch_gradient(plan, rows, d_received,
                                                    d_weight, chunk.scratch);
    experts_->add_gradients(chunk, terms);
    co_await back;
    wait(rows.weight_sent);
  }
}

Task Chain::backward(Chunk& chunk, const RoutingStatistics& statistics,
                     Saved& saved, TensorView d_out, TensorView d_x) const {
  const Dispatch exchange = this->exchange(chunk);
  const ArenaScope scope(chunk.scratch);
  const TensorView spare =
      chunk.temporary(chunk.compute(), {chunk.tokens, hidden_});
  TensorView d_y = d_out, d_input = spare;
  saved.terms.clear();  // what an earlier call left that threw
  for (std::int64_t t = config_.iterations - 1; t >= 0; --t) {
    Iteration& it = saved.iterations[static_cast<std::size_t>(t)];
    DispatchRound& rows = it.plan.main;
    const DType compute = chunk.compute(), wide = chunk.wide();
    const TensorView received = rows.received;
    // These two last until the experts' gradients are taken.
    const TensorView d_result = chunk.temporary(compute, received.shape());
    const TensorView d_activation =
        chunk.temporary(compute, {rows.rows, experts_->intermediate()});
    const ArenaScope inner(chunk.scratch);
    const ArenaScope on_wire(chunk.wire);
    exchange.plan_gradient(it.plan, d_y, chunk.scratch);
    const bool crosses = exchange.crosses();
    if (crosses) {
      if (shared_)
        shared_->backward(chunk, it.x, it.shared, d_y, d_input, false);
      co_await it.plan.crossed;
    }
    if (it.plan.rounds > 1) {
      co_await backward_later(chunk, exchange, it.plan, saved);
    }
    const Pending sent =
        exchange.combine_gradient(it.plan, rows, chunk.scratch);
    if (shared_ && !crosses) {
      shared_->backward(chunk, it.x, it.shared, d_y, d_input, false);
    }
    co_await sent;
    exchange.receive_gradient(rows, d_result);

    const TensorView d_received = chunk.temporary(compute, received.shape());
    const TensorView d_received_weight = chunk.temporary(wide, {rows.rows});
    experts_->backward(chunk, received, rows.offsets, it.experts,
                       rows.received_weight, d_result, d_activation, d_received,
                       d_received_weight, saved.terms);
    const TensorView d_weights =
        chunk.temporary(wide, it.routes.weights.shape());
    Pending home = exchange.dispatch_gradient(it.plan, rows, d_received,
                                              d_received_weight, chunk.scratch);
    if (crosses) {
      co_await home;
      home = exchange.return_gradients(it.plan, chunk.scratch);
    }
    if (t == 0) experts_->add_gradients(chunk, saved.terms);
    co_await home;
    exchange.add_gradients(
        it.plan, d_received, d_received_weight, d_input, shared_ != nullptr,
        config_.inner_residual() ? d_y : TensorView(), d_weights);

    router(t).backward(chunk, statistics.cell(layer_, t), it.routes, d_weights,
                       d_input);
    if (chunk.observer != nullptr) {
      chunk.computed(fmt::format("{}.{}.input.gradient", name_, t), d_input);
    }
    std::swap(d_y, d_input);
  }
  if (d_y.data() != d_x.data()) {
    chunk.kernels()(Copy{.from = d_y, .to = d_x});
  }
}

Chain::Chain(ParameterSet& set, const std::string& name,
             const ModelConfig& config, std::int64_t layer, Ranks* ranks)
    : name_(name),
      config_(config.chain),
      hidden_(config.hidden),
      layer_(layer),
      ranks_(ranks) {
  const std::int64_t routers =
      config_.independent_gates ? config_.iterations : 1;
  for (std::int64_t t = 0; t < routers; ++t) {
    routers_.push_back(std::make_unique<Router>(
        set,
        config_.independent_gates ? fmt::format("{}.gate.{}", name, t)
                                  : name + ".gate",
        config));
  }
  experts_ =
      std::make_unique<Experts>(set, name + ".experts", config, layer, ranks);
  if (config_.shared_experts > 0) {
    shared_ = std::make_unique<SwiGluMlp>(
        set, name + ".shared_experts", config.hidden,
        config_.shared_experts * config_.intermediate,
        config.initializer_range);
  }
}

}  // namespace catena
