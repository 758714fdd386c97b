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
  const bool whole = of_node < expert && expert % of_node == 0;
  const bool within = of_node >= expert && of_node % expert == 0;
  if (nodes.hierarchical && !whole && !within) {
    fail(ErrorKind::kConfig,
         "parallel.hierarchical = true: groups of parallel.expert = {} ranks "
         "are neither whole nodes of {} nor parts of one; choose a multiple "
         "or a divisor of parallel.ranks_per_node, or set "
         "parallel.hierarchical = false",
         expert, of_node);
  }
  return {.world = world,
          .expert = expert,
          .ranks_per_node = static_cast<int>(of_node),
          .hierarchical = nodes.hierarchical};
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
  if (mesh.crosses()) make_node_and_rail(deadline);
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

void Ranks::make_node_and_rail(Communicator::Deadline deadline) {
  Transport& transport = world_.transport();
  const int lane = transport.take_lanes(2);
  const int of_node = mesh_.node(), me = expert_.rank();
  std::vector<int> node, rail;
  for (int place = 0; place < mesh_.expert; ++place) {
    const int rank = expert_.members()[static_cast<std::size_t>(place)];
    if (place / of_node == me / of_node) node.push_back(rank);
    if (place % of_node == me % of_node) rail.push_back(rank);
  }
  node_ = std::make_unique<Communicator>(transport, node, deadline, lane);
  rail_ = std::make_unique<Communicator>(transport, rail, deadline, lane);
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
  std::vector<std::int32_t> server, node_server,
      local(static_cast<std::size_t>(placement.experts()), -1);
  const int me = expert_.rank(), of_node = mesh_.of_node();
  for (std::int64_t e = 0; e < placement.experts(); ++e) {
    if (!mesh_.crosses()) {
      server.push_back(placement.server(e, me));
      continue;
    }
    const int inside = placement.server_inside(e, me, of_node);
    server.push_back(inside < 0 ? -1 : inside % of_node);
    node_server.push_back(placement.server_node(e, me, of_node));
  }
  for (std::size_t i = 0; i < layer.held.size(); ++i) {
    local[static_cast<std::size_t>(layer.held[i])] =
        static_cast<std::int32_t>(i);
  }
  layer.server = upload(*backend_, server);
  if (rail_) layer.node_server = upload(*backend_, node_server);
  layer.local = upload(*backend_, local);
  return layer;
}

}  // namespace catena
