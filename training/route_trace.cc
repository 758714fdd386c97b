#include "training/route_trace.h"

#include <algorithm>
#include <limits>
#include <numeric>

namespace catena {
namespace {

/// The least score among the chosen less the greatest among the others.
template <class W>
double margin_of(const W* scores, const W* bias, std::int64_t experts,
                 const std::int32_t* chosen, std::int64_t top_k) {
  constexpr double kNone = std::numeric_limits<double>::infinity();
  double least = kNone, greatest = -kNone;
  for (std::int64_t e = 0; e < experts; ++e) {
    const double score = static_cast<double>(scores[e]) +
                         (bias != nullptr ? static_cast<double>(bias[e]) : 0);
    if (std::find(chosen, chosen + top_k, static_cast<std::int32_t>(e)) !=
        chosen + top_k) {
      least = std::min(least, score);
    } else {
      greatest = std::max(greatest, score);
    }
  }
  return least - greatest;
}

template <class W>
void write_margins(const Observer::Routed& routes, const std::int32_t* chosen,
                   double* margins) {
  const std::int64_t experts = routes.scores.size(1);
  const std::int64_t top_k = routes.index.size(1);
  const W* bias = routes.bias.defined() ? routes.bias.as<W>() : nullptr;
  for (std::int64_t t = 0; t < routes.index.size(0); ++t) {
    margins[t] = margin_of(routes.scores.as<W>() + t * experts, bias, experts,
                           chosen + t * top_k, top_k);
  }
}

}  // namespace

RouteTrace::RouteTrace(const ModelConfig& model,
                       const std::vector<std::int64_t>& tokens)
    : layers_(model.chain_layers()),
      iterations_(model.chain.iterations),
      top_k_(model.chain.top_k),
      begins_(tokens.size()),
      tokens_(tokens) {
  std::exclusive_scan(tokens.begin(), tokens.end(), begins_.begin(),
                      std::int64_t{0});
  const std::int64_t all =
      std::accumulate(tokens.begin(), tokens.end(), std::int64_t{0}) * layers_ *
      iterations_;
  experts_.resize(static_cast<std::size_t>(all * top_k_), -1);
  margins_.resize(static_cast<std::size_t>(all));
}

std::size_t RouteTrace::at(std::int64_t step, std::int64_t layer,
                           std::int64_t iteration, std::int64_t token) const {
  const auto s = static_cast<std::size_t>(step);
  const std::int64_t cells = layers_ * iterations_;
  return static_cast<std::size_t>(
      begins_[s] * cells + (layer * iterations_ + iteration) * tokens_[s] +
      token);
}

std::span<std::int32_t> RouteTrace::of_step(std::int64_t step) {
  const std::int64_t count =
      layers_ * iterations_ * tokens_[static_cast<std::size_t>(step)] * top_k_;
  return {experts(step, 0, 0, 0), static_cast<std::size_t>(count)};
}

RouteTrace::Flips RouteTrace::flips(const RouteTrace& other) const {
  CATENA_CHECK(other.experts_.size() == experts_.size(),
               "[route_trace] {} choices beside {}", experts_.size(),
               other.experts_.size());
  const auto k = static_cast<std::size_t>(top_k_);
  Flips result;
  std::vector<std::int32_t> mine(k), theirs(k);
  for (std::size_t i = 0; i < margins_.size(); ++i) {
    std::copy_n(experts_.begin() + static_cast<std::ptrdiff_t>(i * k), k,
                mine.begin());
    std::copy_n(other.experts_.begin() + static_cast<std::ptrdiff_t>(i * k), k,
                theirs.begin());
    std::sort(mine.begin(), mine.end());
    std::sort(theirs.begin(), theirs.end());
    if (mine == theirs) continue;
    ++result.count;
    result.largest_margin = std::max(result.largest_margin, margins_[i]);
  }
  return result;
}

TensorView RouteTracer::forced_routes(const Chunk& chunk, std::int64_t layer,
                                      std::int64_t iteration) {
  if (replay_ == nullptr || !chunk.training) return {};
  return {replay_->experts(step_, layer, iteration, chunk.first_token),
          DType::kInt32,
          {chunk.tokens, replay_->top_k()}};
}

void RouteTracer::routed(const Chunk& chunk, std::int64_t layer,
                         std::int64_t iteration, const Routed& routes) {
  if (!chunk.training) return;
  std::int32_t* experts =
      record_->experts(step_, layer, iteration, chunk.first_token);
  std::copy_n(routes.index.as<std::int32_t>(), routes.index.elements(),
              experts);
  double* margins = record_->margin(step_, layer, iteration, chunk.first_token);
  if (routes.scores.dtype() == DType::kFloat64) {
    write_margins<double>(routes, experts, margins);
  } else {
    write_margins<float>(routes, experts, margins);
  }
}

}  // namespace catena
