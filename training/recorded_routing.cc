#include "training/recorded_routing.h"

#include <algorithm>
#include <numeric>

namespace catena {

RecordedRouting::RecordedRouting(const Config& config, const Mesh& mesh,
                                 const Placements& placements,
                                 const DispatchRules& rules)
    : config_(config),
      shape_(RouteShape::of(config.model)),
      mesh_(mesh),
      placements_(placements),
      rules_(rules),
      backend_(make_cpu_backend(1)),
      scratch_(*backend_),
      homes_(static_cast<std::size_t>(mesh.expert)),
      micro_batch_(static_cast<std::size_t>(config.parallel.chunks)) {}

void RecordedRouting::set_step(const RoutedStep& step) {
  CATENA_CHECK(static_cast<std::int64_t>(step.experts.size()) ==
                   step.tokens() * shape_.choices(),
               "[recorded_routing] {} choices of {} tokens",
               step.experts.size(), step.tokens());
  step_ = &step;
  counts_.clear();
  batch_ = {};
  batch_.rows = static_cast<std::int64_t>(step.row_offsets.size()) - 1;
  batch_.sequence = config_.data.sequence;
  batch_.row_offsets = step.row_offsets;
  const auto tokens = static_cast<std::size_t>(step.tokens());
  batch_.tokens.assign(tokens, 0);
  batch_.targets.assign(tokens, 0);
  batch_.trained_tokens = step.tokens();
  for (std::size_t row = 0; row + 1 < step.row_offsets.size(); ++row) {
    const std::int64_t begin = step.row_offsets[row];
    for (std::int64_t i = begin; i < step.row_offsets[row + 1]; ++i) {
      batch_.positions.push_back(static_cast<std::int32_t>(i - begin));
      batch_.first.push_back(static_cast<std::int32_t>(begin));
    }
  }
}

std::int64_t RecordedRouting::micro_batches() const {
  const std::int64_t rows = config_.micro_batch_rows() * mesh_.world;
  return (batch_.rows + rows - 1) / rows;
}

RowRange RecordedRouting::tokens(std::int64_t micro_batch, int rank,
                                 std::int64_t chunk) const {
  const std::int64_t most = config_.micro_batch_rows() * mesh_.world;
  const std::int64_t first = micro_batch * most;
  const RowRange of_rank =
      share_of(std::min(most, batch_.rows - first), rank, mesh_.world);
  const RowRange of_chunk =
      share_of(of_rank.rows(), chunk, config_.parallel.chunks);
  const std::int64_t begin = first + of_rank.begin;
  return {step_->row_offsets[static_cast<std::size_t>(begin + of_chunk.begin)],
          step_->row_offsets[static_cast<std::size_t>(begin + of_chunk.end)]};
}

void RecordedRouting::routed(const Chunk& chunk, std::int64_t, std::int64_t,
                             const Routed&) {
  const auto row =
      std::lower_bound(step_->row_offsets.begin(), step_->row_offsets.end(),
                       chunk.first_token) -
      step_->row_offsets.begin();
  micro_batch_[static_cast<std::size_t>(chunk.number)] =
      row / (config_.micro_batch_rows() * mesh_.world);
}

TensorView RecordedRouting::server(std::int64_t layer, int home) {
  Tensor& server = servers_[{placements_.size() == 1 ? 0 : layer, home}];
  if (!server.defined()) {
    const Placement& placement = placements_[layer];
    std::vector<std::int32_t> ranks;
    for (std::int64_t e = 0; e < placement.experts(); ++e) {
      ranks.push_back(placement.server(e, home));
    }
    server = Tensor(*backend_, DType::kInt32, {placement.experts()});
    backend_->copy_from_host(server.view().data(), ranks.data(),
                             ranks.size() * sizeof(ranks[0]));
  }
  return server.view();
}

void RecordedRouting::count_home(const Key& key, int home, Home& counts) {
  const auto [micro_batch, group, chunk, layer, iteration] = key;
  const RowRange range =
      tokens(micro_batch, static_cast<int>(group) * mesh_.expert + home, chunk);
  const std::int64_t count = range.rows(), k = shape_.top_k;
  const std::int64_t size = mesh_.expert, most = std::min(size, k);
  const std::int64_t cell = layer * shape_.iterations + iteration;
  const ArenaScope scope(scratch_);
  const auto room = [&](const Shape& shape) {
    return scratch_.allocate(DType::kInt32, shape);
  };
  const TensorView index = room({count, k});
  backend_->copy_from_host(
      index.data(),
      step_->experts.data() + (cell * step_->tokens() + range.begin) * k,
      static_cast<std::size_t>(index.bytes()));
  const TensorView table = room({2, size});
  const TensorView before = room({count * most});
  backend_->kernels()(PartitionRows{.index = index,
                                    .owner = server(layer, home),
                                    .counts = table,
                                    .row = room({count * most}),
                                    .before = before,
                                    .copy = room({count, most}),
                                    .place = room({count, k}),
                                    .kept = room({count * most, k})});
  const auto* counted = table.as<std::int32_t>();
  counts.copies.assign(counted, counted + size);
  counts.rows.assign(counted + size, counted + 2 * size);
  const auto* of_copies = before.as<std::int32_t>();
  counts.before.assign(of_copies,
                       of_copies + std::accumulate(counts.copies.begin(),
                                                   counts.copies.end(), 0));
}

void RecordedRouting::cut_rounds(Counts& counts) {
  const auto rounds = static_cast<std::size_t>(counts.rounds);
  const std::size_t size = homes_.size();
  counts.ends.resize(size * size * rounds);
  counts.round_rows.resize(size * rounds);
  std::vector<std::int64_t> base(size);
  for (std::size_t from = 0; from < size; ++from) {
    const Home& home = homes_[from];
    const std::int32_t* before = home.before.data();
    for (std::size_t to = 0; to < size; ++to) {
      const std::int32_t copies = home.copies[to];
      std::int32_t* ends = counts.ends.data() + (from * size + to) * rounds;
      rules_.cut(*backend_,
                 {.count = copies,
                  .before = before,
                  .base = base[to],
                  .rows = counts.rows[to]},
                 shape_.top_k, counts.rounds, ends);
      std::int32_t earlier = 0;
      for (std::size_t round = 0; round < rounds; ++round) {
        const std::int32_t end = ends[round];
        const std::int32_t rows = end < copies ? before[end] : home.rows[to];
        counts.round_rows[to * rounds + round] += rows - earlier;
        earlier = rows;
      }
      base[to] += home.rows[to];
      before += copies;
    }
  }
}

const RecordedRouting::Counts& RecordedRouting::counts(const Key& key) {
  const auto [at, is_new] = counts_.try_emplace(key);
  Counts& counts = at->second;
  if (!is_new) return counts;
  counts.rows.resize(homes_.size());
  for (std::size_t home = 0; home < homes_.size(); ++home) {
    count_home(key, static_cast<int>(home), homes_[home]);
    for (std::size_t to = 0; to < homes_.size(); ++to) {
      counts.rows[to] += homes_[home].rows[to];
    }
  }
  for (const std::int64_t rows : counts.rows) {
    counts.rounds = std::max(counts.rounds, rules_.rounds(rows, shape_.top_k));
  }
  cut_rounds(counts);
  return counts;
}

void RecordedRouting::count(const Tag& tag, ModelledCounts& result) {
  const auto chunk = static_cast<std::size_t>(tag.chunk);
  const Counts& counts =
      this->counts({micro_batch_[chunk], rank_ / mesh_.expert, tag.chunk,
                    tag.layer, tag.iteration});
  const auto size = static_cast<std::size_t>(mesh_.expert);
  const auto me = static_cast<std::size_t>(rank_ % mesh_.expert);
  const auto rounds = static_cast<std::size_t>(counts.rounds);
  result.rounds = counts.rounds;
  result.alike = false;
  result.sent_ends.clear();
  result.received_ends.clear();
  for (std::size_t r = 0; r < size; ++r) {
    for (std::size_t round = 0; round < rounds; ++round) {
      result.sent_ends.push_back(counts.ends[(me * size + r) * rounds + round]);
      result.received_ends.push_back(
          counts.ends[(r * size + me) * rounds + round]);
    }
  }
  const auto rows =
      counts.round_rows.begin() + static_cast<std::ptrdiff_t>(me * rounds);
  result.rows.assign(rows, rows + counts.rounds);
}

std::vector<double> RecordedRouting::rows(std::int64_t layer,
                                          std::int64_t iteration) {
  std::vector<double> rows;
  for (int group = 0; group < mesh_.data(); ++group) {
    std::vector<double> of_group(static_cast<std::size_t>(mesh_.expert));
    for (std::int64_t m = 0; m < micro_batches(); ++m) {
      for (std::int64_t c = 0; c < config_.parallel.chunks; ++c) {
        const Counts& counts = this->counts({m, group, c, layer, iteration});
        for (std::size_t r = 0; r < of_group.size(); ++r) {
          of_group[r] += static_cast<double>(counts.rows[r]);
        }
      }
    }
    rows.insert(rows.end(), of_group.begin(), of_group.end());
  }
  return rows;
}

}  // namespace catena
