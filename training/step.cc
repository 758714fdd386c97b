#include "training/step.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "training/diagnosis.h"
#include "training/learning_rate.h"

namespace catena {

Tokens tokens_of(const data::Batch& batch, std::int64_t first_row,
                 std::int64_t rows) {
  return {batch.tokens, batch.targets, batch.positions, batch.first,
          std::span<const std::int64_t>(batch.row_offsets)
              .subspan(static_cast<std::size_t>(first_row),
                       static_cast<std::size_t>(rows) + 1)};
}

Step::Step(Model& model, Optimizer& optimizer, const Config& config)
    : model_(model),
      optimizer_(optimizer),
      config_(config),
      ranks_(model.ranks()),
      micro_rows_(config.micro_batch_rows()) {
  for (std::int64_t i = 0; i < config.parallel.chunks; ++i) {
    chunks_.push_back(model.make_chunk());
    chunks_.back()->recompute = config.train.recompute == "layer";
  }
}

bool Step::accumulate(const data::Batch& batch) {
  const auto all = static_cast<double>(batch.tokens.size());
  scale_.per_trained_token =
      1 / static_cast<double>(std::max<std::int64_t>(1, batch.trained_tokens));
  scale_.per_sequence = 1 / static_cast<double>(batch.rows);
  scale_.per_token = 1 / all;
  bool finite = true;
  for_each_micro_batch(batch, [&](const Tokens& tokens, bool last) {
    if (!finite && ranks_ == nullptr) return;
    scale_.per_batch = static_cast<double>(tokens.batch_tokens) / all;
    model_.train(tokens, scale_, chunks_, last ? &optimizer_ : nullptr);
    finite &= std::isfinite(model_.statistics().total_loss());
  });
  if (ranks_ == nullptr) return finite;
  optimizer_.sum_gradients();
  model_.statistics().sum(ranks_->world());
  return std::isfinite(model_.statistics().total_loss());
}

template <class Work>
void Step::for_each_micro_batch(const data::Batch& batch,
                                const Work& work) const {
  const std::int64_t ranks = ranks_ != nullptr ? ranks_->size() : 1;
  const std::int64_t rank = ranks_ != nullptr ? ranks_->rank() : 0;
  for (std::int64_t row = 0; row < batch.rows; row += micro_rows_ * ranks) {
    const std::int64_t rows = std::min(micro_rows_ * ranks, batch.rows - row);
    const RowRange share = share_of(rows, rank, ranks);
    Tokens tokens = tokens_of(batch, row + share.begin, share.rows());
    tokens.batch_tokens =
        batch.row_offsets[static_cast<std::size_t>(row + rows)] -
        batch.row_offsets[static_cast<std::size_t>(row)];
    work(tokens, row + rows == batch.rows);
  }
}

void Step::diagnose(const data::Batch& batch, std::int64_t number) {
  for_each_micro_batch(batch, [&](const Tokens& tokens, bool) {
    find_non_finite(model_, tokens, scale_, chunks_, number);
  });
  fail(ErrorKind::kNonFinite,
       "step {}: the loss or the gradient norm is not finite, though every "
       "tensor is: their sum overflows. Lower learning_rate.peak",
       number);
}

void Step::check_loads(const StepReport& report) const {
  const auto expected = static_cast<double>(report.routed_tokens) *
                        static_cast<double>(config_.model.chain.top_k);
  for (std::size_t l = 0; l < report.routes.size(); ++l) {
    for (std::size_t t = 0; t < report.routes[l].size(); ++t) {
      const auto& load = report.routes[l][t].load;
      const double sum = std::accumulate(load.begin(), load.end(), 0.0);
      if (sum == expected) continue;
      fail(ErrorKind::kInternal,
           "step {}: chain layer {}, iteration {}: {} choices were counted "
           "for {} tokens with top_k = {}; please report this",
           report.step, l, t, sum, report.routed_tokens,
           config_.model.chain.top_k);
    }
  }
}

void Step::compute(const data::Batch& batch, std::int64_t number,
                   StepReport& report) {
  RoutingStatistics& statistics = model_.statistics();
  statistics.clear();
  const bool finite = accumulate(batch);
  report.step = number;
  report.tokens = batch.rows * batch.sequence - batch.padding_tokens;
  report.routed_tokens = static_cast<std::int64_t>(batch.tokens.size());
  report.trained_tokens = batch.trained_tokens;
  report.loss = statistics.total_loss() * scale_.per_trained_token;
  report.gradient_norm = finite ? optimizer_.gradient_norm() : std::nan("");
  report.learning_rate =
      learning_rate(config_.learning_rate, number, config_.train.steps);
  report.routes.resize(static_cast<std::size_t>(statistics.layers()));
  for (std::size_t l = 0; l < report.routes.size(); ++l) {
    auto& layer = report.routes[l];
    layer.resize(static_cast<std::size_t>(statistics.iterations()));
    for (std::size_t t = 0; t < layer.size(); ++t) {
      statistics.summarize(static_cast<std::int64_t>(l),
                           static_cast<std::int64_t>(t), layer[t]);
    }
  }
  const bool counted =
      ranks_ == nullptr || ranks_->world().transport().carries();
  if (finite && counted) check_loads(report);
  if (ranks_ != nullptr) report_ranks(report);
}

void Step::report_ranks(StepReport& report) const {
  report.several_ranks = true;
  report.rank_load.resize(report.routes.size());
  for (std::size_t l = 0; l < report.routes.size(); ++l) {
    report.rank_load[l].clear();
    for (const RouteSummary& summary : report.routes[l]) {
      report.rank_load[l].push_back(
          ranks_->load_max_to_mean(static_cast<std::int64_t>(l), summary.load));
    }
  }
}

void Step::apply(const StepReport& report) {
  optimizer_.update(report.learning_rate,
                    optimizer_.clip_scale(report.gradient_norm), report.step);
  model_.update_router_biases();
}

void Step::reserve(const std::vector<ChunkMemory>& memory) {
  const auto count = static_cast<std::int64_t>(chunks_.size());
  const std::int64_t rows =
      config_.micro_rows(ranks_ != nullptr ? ranks_->size() : 1);
  const std::int64_t most = (rows + count - 1) / count * config_.data.sequence;
  for (std::size_t i = 0; i < chunks_.size() && i < memory.size(); ++i) {
    chunks_[i]->reserve(memory[i], most);
  }
}

std::int64_t Step::activation_bytes() const {
  std::size_t bytes = 0;
  for (const auto& chunk : chunks_) {
    bytes += chunk->peak().total();
  }
  return static_cast<std::int64_t>(bytes);
}

void Step::discard() { model_.parameters().clear_gradients(); }

}  // namespace catena
