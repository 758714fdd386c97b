#include "layers/statistics.h"

#include <algorithm>
#include <numeric>

namespace catena {

double RouteSummary::max_to_mean() const {
  const double sum = std::accumulate(load.begin(), load.end(), 0.0);
  if (sum == 0) return 0;
  return *std::max_element(load.begin(), load.end()) *
         static_cast<double>(load.size()) / sum;
}

std::int64_t RouteSummary::idle() const {
  return std::count(load.begin(), load.end(), 0.0);
}

RoutingStatistics::RoutingStatistics(Backend& backend, DType wide,
                                     std::int64_t layers,
                                     std::int64_t iterations,
                                     std::int64_t experts, std::int64_t top_k)
    : backend_(&backend),
      layers_(layers),
      iterations_(iterations),
      experts_(experts),
      top_k_(top_k) {
  const std::int64_t cells = layers * iterations;
  load_ = Tensor(backend, DType::kFloat64, {cells, experts});
  sums_ = Tensor(backend, wide, {cells, experts});
  counts_ = Tensor(backend, wide, {cells, experts});
  auxiliary_ = Tensor(backend, wide, {cells});
  entropy_ = Tensor(backend, DType::kFloat64, {cells});
  z_ = Tensor(backend, DType::kFloat64, {cells});
  loss_ = Tensor(backend, DType::kFloat64, {1});
  transitions_ = Tensor(backend, DType::kInt64,
                        {layers * (iterations - 1), experts, experts});
}

void RoutingStatistics::clear() {
  for (const Tensor* tensor :
       {&load_, &entropy_, &auxiliary_, &z_, &transitions_, &loss_}) {
    backend_->clear(tensor->view().data(),
                    static_cast<std::size_t>(tensor->view().bytes()));
  }
  clear_batch();
}

void RoutingStatistics::clear_batch() {
  for (const Tensor* tensor : {&sums_, &counts_}) {
    backend_->clear(tensor->view().data(),
                    static_cast<std::size_t>(tensor->view().bytes()));
  }
}

void RoutingStatistics::sum(Communicator& ranks) {
  for (const Tensor* tensor :
       {&load_, &entropy_, &auxiliary_, &z_, &transitions_, &loss_}) {
    if (!tensor->view().empty()) wait(ranks.all_reduce({}, tensor->view()));
  }
}

void RoutingStatistics::sum_batch(Communicator& ranks) {
  for (const Tensor* tensor : {&sums_, &counts_}) {
    if (!tensor->view().empty()) wait(ranks.all_reduce({}, tensor->view()));
  }
}

RoutingStatistics::Cell RoutingStatistics::cell(std::int64_t layer,
                                                std::int64_t iteration) const {
  const std::int64_t i = number(layer, iteration);
  Cell cell{load_.view().slice(0, i, 1),
            entropy_.view().slice(0, i, 1),
            auxiliary_.view().slice(0, i, 1),
            z_.view().slice(0, i, 1),
            sums_.view().slice(0, i, 1),
            counts_.view().slice(0, i, 1),
            {}};
  if (iteration + 1 < iterations_) {
    cell.transitions =
        transitions_.view().at(layer * (iterations_ - 1) + iteration);
  }
  return cell;
}

RouteSummary RoutingStatistics::summary(std::int64_t layer,
                                        std::int64_t iteration) const {
  RouteSummary summary;
  summarize(layer, iteration, summary);
  return summary;
}

void RoutingStatistics::summarize(std::int64_t layer, std::int64_t iteration,
                                  RouteSummary& summary) const {
  const Cell views = cell(layer, iteration);
  summary.load.resize(static_cast<std::size_t>(experts_));
  read_values(*backend_, views.load, summary.load);
  const double choices =
      std::accumulate(summary.load.begin(), summary.load.end(), 0.0);
  summary.tokens = choices / static_cast<double>(top_k_);
  const double each = summary.tokens > 0 ? 1 / summary.tokens : 0;
  summary.entropy_nats = read_value(*backend_, views.entropy) * each;
  summary.auxiliary_loss = read_value(*backend_, views.auxiliary);
  summary.z_loss = read_value(*backend_, views.z) * each;
}

std::vector<std::int64_t> RoutingStatistics::transitions(
    std::int64_t layer, std::int64_t iteration) const {
  const TensorView view = cell(layer, iteration).transitions;
  std::vector<std::int64_t> counts(
      static_cast<std::size_t>(experts_ * experts_));
  backend_->copy_to_host(counts.data(), view.data(),
                         static_cast<std::size_t>(view.bytes()));
  return counts;
}

double RoutingStatistics::total_loss() const {
  return read_value(*backend_, loss_.view());
}

void add_sum(Chunk& chunk, TensorView x, TensorView sum, bool squares) {
  const ArenaScope scope(chunk.scratch);
  const TensorView part = chunk.temporary(DType::kFloat64, {1});
  if (squares) {
    chunk.kernels()(SumSquares{.x = x, .out = part});
  } else {
    chunk.kernels()(Sum{.x = x, .out = part});
  }
  chunk.kernels()(Add{.a = sum, .b = part, .out = sum});
}

}  // namespace catena
