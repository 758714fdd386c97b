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
      crossing_(homes_.size()),
      guests_(homes_.size()),
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

TensorView RecordedRouting::server(std::int64_t layer, int home, bool nodes) {
  Tensor& server = servers_[{placements_.size() == 1 ? 0 : layer, home, nodes}];
  if (!server.defined()) {
    const Placement& placement = placements_[layer];
    const int of_node = mesh_.of_node();
    std::vector<std::int32_t> parts;
    for (std::int64_t e = 0; e < placement.experts(); ++e) {
      if (nodes) {
        parts.push_back(placement.server_node(e, home, of_node));
      } else if (mesh_.crosses()) {
        const int rank = placement.server_inside(e, home, of_node);
        parts.push_back(rank < 0 ? -1 : rank % of_node);
      } else {
        parts.push_back(placement.server(e, home));
      }
    }
    server = Tensor(*backend_, DType::kInt32, {placement.experts()});
    backend_->copy_from_host(server.view().data(), parts.data(),
                             parts.size() * sizeof(parts[0]));
  }
  return server.view();
}

std::span<const std::int32_t> RecordedRouting::chosen(const Key& key,
                                                      int home) const {
  const auto [micro_batch, group, chunk, layer, iteration] = key;
  const RowRange range =
      tokens(micro_batch, static_cast<int>(group) * mesh_.expert + home, chunk);
  const std::int64_t cell = layer * shape_.iterations + iteration;
  const std::int64_t begin =
      (cell * step_->tokens() + range.begin) * shape_.top_k;
  return std::span(step_->experts)
      .subspan(static_cast<std::size_t>(begin),
               static_cast<std::size_t>(range.rows() * shape_.top_k));
}

void RecordedRouting::partition(std::span<const std::int32_t> index,
                                TensorView owner, std::int64_t parts,
                                Home& home) {
  const std::int64_t k = shape_.top_k, most = std::min(parts, k);
  const std::int64_t count = static_cast<std::int64_t>(index.size()) / k;
  const ArenaScope scope(scratch_);
  const auto room = [&](const Shape& shape) {
    return scratch_.allocate(DType::kInt32, shape);
  };
  const TensorView choices = room({count, k});
  backend_->copy_from_host(choices.data(), index.data(), index.size_bytes());
  const TensorView table = room({2, parts});
  const TensorView before = room({count * most});
  const TensorView kept = room({count * most, k});
  backend_->kernels()(PartitionRows{.index = choices,
                                    .owner = owner,
                                    .counts = table,
                                    .row = room({count * most}),
                                    .before = before,
                                    .copy = room({count, most}),
                                    .place = room({count, k}),
                                    .kept = kept});
  const auto* counted = table.as<std::int32_t>();
  home.copies.assign(counted, counted + parts);
  home.rows.assign(counted + parts, counted + 2 * parts);
  const std::int64_t copies =
      std::accumulate(home.copies.begin(), home.copies.end(), std::int64_t{0});
  const auto* of_copies = before.as<std::int32_t>();
  home.before.assign(of_copies, of_copies + copies);
  const auto* kept_choices = kept.as<std::int32_t>();
  home.kept.assign(kept_choices, kept_choices + copies * k);
}

void RecordedRouting::cross(const Key& key, Counts& counts) {
  for (int home = 0; home < mesh_.expert; ++home) {
    Home& at = crossing_[static_cast<std::size_t>(home)];
    partition(chosen(key, home), server(key[3], home, true), mesh_.nodes(), at);
    counts.crossing.insert(counts.crossing.end(), at.copies.begin(),
                           at.copies.end());
  }
  gather_guests();
}

void RecordedRouting::gather_guests() {
  const int size = mesh_.node();
  for (int relay = 0; relay < mesh_.expert; ++relay) {
    std::vector<std::int32_t>& guests =
        guests_[static_cast<std::size_t>(relay)];
    guests.clear();
    for (int home = relay % size; home < mesh_.expert; home += size) {
      const Home& from = crossing_[static_cast<std::size_t>(home)];
      const auto first = from.copies.begin();
      const auto begin =
          std::accumulate(first, first + relay / size, std::int64_t{0}) *
          shape_.top_k;
      const auto count = first[relay / size] * shape_.top_k;
      guests.insert(guests.end(), from.kept.begin() + begin,
                    from.kept.begin() + begin + count);
    }
  }
}

void RecordedRouting::cut_rounds(Counts& counts) {
  const auto rounds = static_cast<std::size_t>(counts.rounds);
  const std::size_t size = homes_.size();
  const auto of_node = static_cast<std::size_t>(mesh_.node());
  counts.ends.resize(size * of_node * rounds);
  counts.round_rows.resize(size * rounds);
  std::vector<std::int64_t> base(size);
  for (std::size_t from = 0; from < size; ++from) {
    const Home& home = homes_[from];
    const std::int32_t* before = home.before.data();
    for (std::size_t place = 0; place < of_node; ++place) {
      const std::size_t to = from / of_node * of_node + place;
      const std::int32_t copies = home.copies[place];
      std::int32_t* ends =
          counts.ends.data() + (from * of_node + place) * rounds;
      rules_.cut(*backend_,
                 {.count = copies,
                  .before = before,
                  .base = base[to],
                  .rows = counts.rows[to]},
                 shape_.top_k, counts.rounds, ends);
      std::int32_t earlier = 0;
      for (std::size_t round = 0; round < rounds; ++round) {
        const std::int32_t end = ends[round];
        const std::int32_t rows = end < copies ? before[end] : home.rows[place];
        counts.round_rows[to * rounds + round] += rows - earlier;
        earlier = rows;
      }
      base[to] += home.rows[place];
      before += copies;
    }
  }
}

const RecordedRouting::Counts& RecordedRouting::counts(const Key& key) {
  const auto [at, is_new] = counts_.try_emplace(key);
  Counts& counts = at->second;
  if (!is_new) return counts;
  if (mesh_.crosses()) cross(key, counts);
  const int size = mesh_.node();
  counts.rows.resize(homes_.size());
  for (int from = 0; from < mesh_.expert; ++from) {
    Home& home = homes_[static_cast<std::size_t>(from)];
    partition(mesh_.crosses() ? guests_[static_cast<std::size_t>(from)]
                              : chosen(key, from),
              server(key[3], from, false), size, home);
    for (int place = 0; place < size; ++place) {
      counts.rows[static_cast<std::size_t>(from / size * size + place)] +=
          home.rows[static_cast<std::size_t>(place)];
    }
  }
  for (const std::int64_t rows : counts.rows) {
    counts.rounds = std::max(counts.rounds, rules_.rounds(rows, shape_.top_k));
  }
  cut_rounds(counts);
  return counts;
}

const RecordedRouting::Counts& RecordedRouting::counts(const Tag& tag) {
  return counts({micro_batch_[static_cast<std::size_t>(tag.chunk)],
                 rank_ / mesh_.expert, tag.chunk, tag.layer, tag.iteration});
}

void RecordedRouting::count(const Tag& tag, ModelledCounts& result) {
  const Counts& counts = this->counts(tag);
  const auto size = static_cast<std::size_t>(mesh_.node());
  const auto home = static_cast<std::size_t>(rank_ % mesh_.expert);
  const std::size_t first = home / size * size;  // of its node
  const auto rounds = static_cast<std::size_t>(counts.rounds);
  result.rounds = counts.rounds;
  result.alike = false;
  result.sent_ends.clear();
  result.received_ends.clear();
  for (std::size_t r = 0; r < size; ++r) {
    for (std::size_t round = 0; round < rounds; ++round) {
      result.sent_ends.push_back(
          counts.ends[(home * size + r) * rounds + round]);
      result.received_ends.push_back(
          counts.ends[((first + r) * size + home - first) * rounds + round]);
    }
  }
  const auto rows =
      counts.round_rows.begin() + static_cast<std::ptrdiff_t>(home * rounds);
  result.rows.assign(rows, rows + counts.rounds);
}

void RecordedRouting::count_crossing(const Tag& tag,
                                     std::vector<std::int64_t>& out,
                                     std::vector<std::int64_t>& in) {
  const Counts& counts = this->counts(tag);
  const int size = mesh_.node(), nodes = mesh_.nodes();
  const int home = rank_ % mesh_.expert;
  const auto copies = [&](int from, int node) {
    return counts.crossing[static_cast<std::size_t>(from * nodes + node)];
  };
  for (int node = 0; node < nodes; ++node) {
    out[static_cast<std::size_t>(node)] = copies(home, node);
    in[static_cast<std::size_t>(node)] =
        copies(node * size + home % size, home / size);
  }
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
