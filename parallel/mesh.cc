#include "parallel/mesh.h"

#include <algorithm>
#include <set>
#include <utility>

#include "runtime/base/error.h"

namespace catena {
namespace {

Tensor upload(Backend& backend, const std::vector<std::int32_t>& values) {
  Tensor tensor(backend, DType::kInt32,
                {static_cast<std::int64_t>(values.size())});
  backend.copy_from_host(tensor.view().data(), values.data(),
                         values.size() * sizeof(values[0]));
  return tensor;
}

}  // namespace

std::vector<int> Mesh::expert_group(int rank) const {
  std::vector<int> ranks;
  for (int i = 0; i < expert; ++i) {
    ranks.push_back(rank / expert * expert + i);
  }
  return ranks;
}

std::vector<int> Mesh::at_places(std::span<const int> places) const {
  std::vector<int> ranks;
  for (int i = 0; i < data(); ++i) {
    for (const int place : places) ranks.push_back(i * expert + place);
  }
  return ranks;
}

Mesh make_mesh(int world, int expert, std::int64_t experts,
               const Nodes& nodes) {
  if (world < 1 || expert < 1 || world % expert != 0) {
    fail(ErrorKind::kConfig,
         "parallel.expert = {}: {} ranks do not divide into groups of {}; "
         "choose a divisor of {}",
         expert, world, expert, world);
  }
  if (expert > experts) {
    fail(ErrorKind::kConfig,
         "parallel.expert = {}: there are only {} routed experts to share",
         expert, experts);
  }
  const std::int64_t of_node =
      nodes.ranks == 0 ? world : std::min<std::int64_t>(nodes.ranks, world);
  return {.world = world,
          .expert = expert,
          .ranks_per_node = static_cast<int>(of_node)};
}

void Ranks::advance() { world_.transport().advance(); }

Traffic Ranks::take_traffic() {
  Traffic traffic = world_.transport().take_traffic();
  traffic.later_rounds = std::exchange(later_rounds_, 0);
  traffic.rows_beyond_budget = std::exchange(rows_beyond_budget_, 0);
  return traffic;
}

double Ranks::load_max_to_mean(std::int64_t layer,
                               std::span<const double> load) const {
  const Placement& placement = placements_[layer];
  double most = 0, all = 0;
  for (int rank = 0; rank < placement.ranks(); ++rank) {
    double of_rank = 0;
    for (const std::int64_t expert : placement.held(rank)) {
      of_rank += load[static_cast<std::size_t>(expert)] /
                 static_cast<double>(placement.holders(expert).size());
    }
    most = std::max(most, of_rank);
    all += of_rank;
  }
  return all == 0 ? 0 : most * placement.ranks() / all;
}

Ranks::Ranks(Transport& transport, Backend& backend, const Mesh& mesh,
             const Placements& placements, Communicator::Deadline deadline,
             const DispatchRules& rules)
    : backend_(&backend),
      mesh_(mesh),
      placements_(placements),
      wire_memory_(transport, backend),
      world_(transport, deadline),
      expert_(transport, mesh.expert_group(transport.rank()), deadline),
      rules_(rules),
      most_held_(static_cast<std::int64_t>(placements.held_by_ranks().second)) {
  CATENA_CHECK(mesh.world == transport.size(), "[ranks] mesh of {} over {}",
               mesh.world, transport.size());
  CATENA_CHECK(placements.ranks() == mesh.expert,
               "[ranks] placement over {} ranks in groups of {}",
               placements.ranks(), mesh.expert);
  transport.set_ranks_per_node(mesh.ranks_per_node);
  make_replica_sets(deadline);
  for (std::size_t i = 0; i < placements.size(); ++i) {
    layers_.push_back(make_layer(placements[static_cast<std::int64_t>(i)]));
  }
  backend.set_background(this);
}

std::vector<int> Ranks::replicas_of(const Placement& placement,
                                    std::int64_t expert) const {
  return mesh_.at_places(placement.holders(expert));
}

// Ordered by members, which every rank does alike: of the sets that are not
// through with their exchanges, the members of the first all come to it.
void Ranks::make_replica_sets(Communicator::Deadline deadline) {
  std::set<std::vector<int>> sets;
  for (std::size_t i = 0; i < placements_.size(); ++i) {
    const Placement& placement = placements_[static_cast<std::int64_t>(i)];
    for (const std::int64_t expert : placement.held(expert_.rank())) {
      sets.insert(replicas_of(placement, expert));
    }
  }
  Transport& transport = world_.transport();
  const int lane = transport.take_lanes(2);
  for (const std::vector<int>& members : sets) {
    replica_sets_.push_back(
        std::make_unique<Communicator>(transport, members, deadline, lane));
  }
}

Ranks::Layer Ranks::make_layer(const Placement& placement) const {
  Layer layer;
  for (const auto& set : replica_sets_) {
    HeldRun run{.begin = static_cast<std::int64_t>(layer.held.size()),
                .count = 0,
                .replicas = set.get()};
    for (const std::int64_t expert : placement.held(expert_.rank())) {
      const std::vector<int> replicas = replicas_of(placement, expert);
      if (!std::equal(replicas.begin(), replicas.end(), set->members().begin(),
                      set->members().end())) {
        continue;
      }
      layer.held.push_back(expert);
      ++run.count;
    }
    if (run.count > 0) layer.runs.push_back(run);
  }
  std::vector<std::int32_t> server,
      local(static_cast<std::size_t>(placement.experts()), -1);
  for (std::int64_t e = 0; e < placement.experts(); ++e) {
    server.push_back(placement.server(e, expert_.rank()));
  }
  for (std::size_t i = 0; i < layer.held.size(); ++i) {
    local[static_cast<std::size_t>(layer.held[i])] =
        static_cast<std::int32_t>(i);
  }
  layer.server = upload(*backend_, server);
  layer.local = upload(*backend_, local);
  return layer;
}

}  // namespace catena
