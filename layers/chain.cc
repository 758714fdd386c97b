#include "layers/chain.h"

namespace catena {

Dispatch Chain::exchange(Chunk& chunk) const {
  return {chunk.kernels(), ranks_,
          Tag{.layer = static_cast<std::int16_t>(layer_),
              .chunk = static_cast<std::int16_t>(chunk.number)}};
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

    router(t).forward(chunk, layer_, t, x, statistics.cell(layer_, t),
                      it.routes);
    co_await exchange.plan(chunk, it.routes.index, it.routes.weights,
                           config_.routed_experts, t, chunk.activations,
                           chunk.scratch, it.plan);
    const Pending sent = exchange.dispatch(it.plan, x, chunk.scratch);
    if (shared_) shared_->forward(chunk, x, y, it.shared);
    co_await sent;
    exchange.receive(it.plan, chunk.activations);

    const TensorView result =
        chunk.temporary(chunk.compute(), it.plan.received.shape());
    experts_->forward(chunk, it.plan.received, it.plan.offsets, result,
                      it.experts);
    co_await exchange.combine(it.plan, result, chunk.scratch);
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
    const DType compute = chunk.compute(), wide = chunk.wide();
    const TensorView received = it.plan.received;
    // These two last until the experts' gradients are taken.
    const TensorView d_result = chunk.temporary(compute, received.shape());
    const TensorView d_activation =
        chunk.temporary(compute, {it.plan.rows, experts_->intermediate()});
    const ArenaScope inner(chunk.scratch);
    const Pending sent = exchange.combine_gradient(it.plan, d_y, chunk.scratch);
    if (shared_) {
      shared_->backward(chunk, it.x, it.shared, d_y, d_input, false);
    }
    co_await sent;
    exchange.receive_gradient(it.plan, d_result);

    const TensorView d_received = chunk.temporary(compute, received.shape());
    const TensorView d_received_weight = chunk.temporary(wide, {it.plan.rows});
    experts_->backward(chunk, received, it.plan.offsets, it.experts,
                       it.plan.received_weight, d_result, d_activation,
                       d_received, d_received_weight, saved.terms);
    const TensorView d_weights =
        chunk.temporary(wide, it.routes.weights.shape());
    const Pending home = exchange.dispatch_gradient(
        it.plan, d_received, d_received_weight, chunk.scratch);
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
