#include "parallel/mesh.h"

#include <algorithm>

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

std::vector<int> Mesh::replicas(int rank) const {
  std::vector<int> ranks;
  for (int i = 0; i < data(); ++i) {
    ranks.push_back(i * expert + rank % expert);
  }
  return ranks;
}

Mesh make_mesh(int world, int expert, std::int64_t experts) {
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
  return {.world = world, .expert = expert};
}

void Ranks::advance() {
  if (!world_.busy() && !expert_.busy() && !replicas_.busy()) return;
  world_.transport().progress();
  for (Communicator* group : {&world_, &expert_, &replicas_}) group->advance();
}

Traffic Ranks::take_traffic() {
  Traffic traffic = world_.take_traffic();
  traffic += expert_.take_traffic();
  traffic += replicas_.take_traffic();
  return traffic;
}

double Ranks::load_max_to_mean(std::span<const double> load) const {
  double most = 0, all = 0;
  for (int rank = 0; rank < placement_.ranks(); ++rank) {
    double of_rank = 0;
    for (const std::int64_t expert : placement_.held(rank)) {
      of_rank += load[static_cast<std::size_t>(expert)] /
                 static_cast<double>(placement_.holders(expert).size());
    }
    most = std::max(most, of_rank);
    all += of_rank;
  }
  return all == 0 ? 0 : most * placement_.ranks() / all;
}

Ranks::Ranks(Transport& transport, Backend& backend, const Mesh& mesh,
             const Placement& placement, Communicator::Deadline deadline)
    : backend_(&backend),
      mesh_(mesh),
      placement_(placement),
      world_(transport, deadline),
      expert_(transport, mesh.expert_group(transport.rank()), deadline),
      replicas_(transport, mesh.replicas(transport.rank()), deadline) {
  CATENA_CHECK(mesh.world == transport.size(), "[ranks] mesh of {} over {}",
               mesh.world, transport.size());
  CATENA_CHECK(placement.ranks() == mesh.expert,
               "[ranks] placement over {} ranks in groups of {}",
               placement.ranks(), mesh.expert);
  std::vector<std::int32_t> server,
      local(static_cast<std::size_t>(placement.experts()), -1);
  for (std::int64_t e = 0; e < placement.experts(); ++e) {
    server.push_back(placement.server(e, expert_.rank()));
  }
  for (std::size_t i = 0; i < held().size(); ++i) {
    local[static_cast<std::size_t>(held()[i])] = static_cast<std::int32_t>(i);
  }
  server_ = upload(backend, server);
  local_ = upload(backend, local);
  backend.set_background(this);
}

}  // namespace catena
