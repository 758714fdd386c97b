#include "launcher/binding.h"

#include <fmt/format.h>
#include <hwloc.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <memory>
#include <type_traits>
#include <utility>

#include "runtime/base/error.h"

namespace catena::launcher {
namespace {

constexpr std::array<const char*, 3> kNames = {"none", "core", "numa"};

struct Destroy {
  void operator()(hwloc_topology_t topology) const {
    hwloc_topology_destroy(topology);
  }
};
using Topology =
    std::unique_ptr<std::remove_pointer_t<hwloc_topology_t>, Destroy>;

struct Free {
  void operator()(hwloc_bitmap_t bitmap) const { hwloc_bitmap_free(bitmap); }
};
using Bitmap = std::unique_ptr<std::remove_pointer_t<hwloc_bitmap_t>, Free>;

Topology make_topology() {
  hwloc_topology_t topology = nullptr;
  CATENA_CHECK(hwloc_topology_init(&topology) == 0, "[bind] hwloc: no memory");
  return Topology(topology);
}

Processors processors_of(hwloc_const_cpuset_t set) {
  Processors result;
  for (int p = hwloc_bitmap_first(set); p >= 0; p = hwloc_bitmap_next(set, p)) {
    result.push_back(p);
  }
  return result;
}

/// Each once, and none without processors: memory may be a node, too.
std::vector<Processors> sets_of(hwloc_topology_t topology,
                                hwloc_obj_type_t type) {
  std::vector<Processors> sets;
  for (hwloc_obj_t object = hwloc_get_next_obj_by_type(topology, type, nullptr);
       object != nullptr;
       object = hwloc_get_next_obj_by_type(topology, type, object)) {
    Processors set = processors_of(object->cpuset);
    const bool known = std::find(sets.begin(), sets.end(), set) != sets.end();
    if (!set.empty() && !known) sets.push_back(std::move(set));
  }
  return sets;
}

/// Memory that several nodes have in common is none of its own.
std::vector<Processors> nearest(const std::vector<Processors>& nodes) {
  std::vector<Processors> result;
  for (const Processors& node : nodes) {
    const bool holds_another =
        std::any_of(nodes.begin(), nodes.end(), [&](const Processors& other) {
          return other != node && std::includes(node.begin(), node.end(),
                                                other.begin(), other.end());
        });
    if (!holds_another) result.push_back(node);
  }
  return result;
}

Machine machine_of(hwloc_topology_t topology) {
  Machine machine{sets_of(topology, HWLOC_OBJ_CORE),
                  nearest(sets_of(topology, HWLOC_OBJ_NUMANODE))};
  // Some virtual machines do not say which processors share a core.
  if (machine.cores.empty()) machine.cores = sets_of(topology, HWLOC_OBJ_PU);
  return machine;
}

/// The core that a rank's share begins with; of rank `ranks`: behind the last.
std::size_t first_core(std::size_t rank, std::size_t ranks, std::size_t cores) {
  return rank * (cores / ranks) + std::min(rank, cores % ranks);
}

bool holds(const Processors& set, int processor) {
  return std::binary_search(set.begin(), set.end(), processor);
}

void add(const Processors& more, Processors& to) {
  Processors all;
  std::set_union(to.begin(), to.end(), more.begin(), more.end(),
                 std::back_inserter(all));
  to = std::move(all);
}

/// The machine's, and what is in none of them.
std::vector<Processors> all_nodes(const Machine& machine) {
  std::vector<Processors> nodes = machine.nodes;
  Processors rest;
  for (const Processors& core : machine.cores) {
    const bool known = std::any_of(
        nodes.begin(), nodes.end(),
        [&](const Processors& node) { return holds(node, core.front()); });
    if (!known) add(core, rest);
  }
  if (!rest.empty()) nodes.push_back(std::move(rest));
  return nodes;
}

/// Which of the sets holds the first processor of this one.
std::size_t index_of(const std::vector<Processors>& sets,
                     const Processors& part) {
  const auto at = std::find_if(
      sets.begin(), sets.end(),
      [&](const Processors& set) { return holds(set, part.front()); });
  return static_cast<std::size_t>(at - sets.begin());
}

std::vector<Processors> core_places(const Machine& machine, std::size_t ranks) {
  std::vector<Processors> places(ranks);
  for (std::size_t rank = 0, core = 0; rank < ranks; ++rank) {
    const auto end = first_core(rank + 1, ranks, machine.cores.size());
    for (; core < end; ++core) add(machine.cores[core], places[rank]);
  }
  return places;
}

/// A rank whose share begins no node is in one with others. Who began it does
/// without it, if that one has more: so places are the same or apart, and
/// together are all nodes.
std::vector<Processors> node_places(const Machine& machine, std::size_t ranks) {
  const std::vector<Processors> nodes = all_nodes(machine);
  const std::vector<Processors> shares = core_places(machine, ranks);
  std::vector<std::vector<std::size_t>> chosen(ranks);
  for (std::size_t node = 0; node < nodes.size(); ++node) {
    const std::size_t rank = index_of(shares, nodes[node]);
    if (rank < ranks) chosen[rank].push_back(node);
  }
  for (std::size_t rank = 0; rank < ranks; ++rank) {
    if (!chosen[rank].empty()) continue;
    const std::size_t node = index_of(nodes, shares[rank]);
    for (auto& others : chosen) {
      if (others.size() > 1) std::erase(others, node);
    }
    chosen[rank] = {node};
  }
  std::vector<Processors> places(ranks);
  for (std::size_t rank = 0; rank < ranks; ++rank) {
    for (const std::size_t node : chosen[rank]) add(nodes[node], places[rank]);
  }
  return places;
}

}  // namespace

const char* name_of(Bind bind) {
  return kNames.at(static_cast<std::size_t>(bind));
}

Bind bind_named(std::string_view name) {
  const auto at = std::find(kNames.begin(), kNames.end(), name);
  if (at == kNames.end()) {
    fail(ErrorKind::kUsage, "--bind {}: it is none, core or numa", name);
  }
  return static_cast<Bind>(at - kNames.begin());
}

std::string list_text(const Processors& processors) {
  std::string text;
  for (std::size_t begin = 0, end = 0; begin < processors.size(); begin = end) {
    for (end = begin + 1; end < processors.size() &&
                          processors[end] == processors[end - 1] + 1;) {
      ++end;
    }
    text += fmt::format("{}{}", text.empty() ? "" : ",", processors[begin]);
    if (end - begin > 1) text += fmt::format("-{}", processors[end - 1]);
  }
  return text;
}

ProcessorMask mask_of(const Processors& processors) {
  if (processors.empty()) return {};
  const auto last = static_cast<std::size_t>(processors.back());
  ProcessorMask mask(last / CPU_SETSIZE + 1);
  const std::size_t bytes = mask.size() * sizeof(cpu_set_t);
  CPU_ZERO_S(bytes, mask.data());
  for (const int processor : processors) {
    CPU_SET_S(static_cast<std::size_t>(processor), bytes, mask.data());
  }
  return mask;
}

void bind_caller(const ProcessorMask& mask) noexcept {
  if (mask.empty()) return;
  ::sched_setaffinity(0, mask.size() * sizeof(cpu_set_t), mask.data());
}

Machine machine_here() {
  const Topology topology = make_topology();
  const Bitmap allowed(hwloc_bitmap_alloc());
  // hwloc heeds the control group by itself, but not this process's own set.
  if (hwloc_topology_load(topology.get()) != 0 ||
      hwloc_get_cpubind(topology.get(), allowed.get(), HWLOC_CPUBIND_THREAD) !=
          0 ||
      hwloc_topology_restrict(topology.get(), allowed.get(),
                              HWLOC_RESTRICT_FLAG_REMOVE_CPULESS) != 0) {
    fail(ErrorKind::kInternal,
         "hwloc does not know this machine's cores; use --bind none");
  }
  return machine_of(topology.get());
}

Machine synthetic_machine(const std::string& description) {
  const Topology topology = make_topology();
  if (hwloc_topology_set_synthetic(topology.get(), description.c_str()) != 0 ||
      hwloc_topology_load(topology.get()) != 0) {
    fail(ErrorKind::kUsage, "[bind] hwloc knows no machine \"{}\"",
         description);
  }
  return machine_of(topology.get());
}

Binding bind_ranks(const Machine& machine, Bind how, int ranks) {
  const std::size_t cores = machine.cores.size();
  const auto count = static_cast<std::size_t>(std::max(0, ranks));
  if (how == Bind::kNone || count == 0) return {};
  if (count > cores) {
    return {.places = {},
            .why_not = fmt::format("{} ranks on {} core{}: they are not bound",
                                   count, cores, cores == 1 ? "" : "s")};
  }
  const auto places = how == Bind::kCore ? core_places(machine, count)
                                         : node_places(machine, count);
  Binding binding;
  for (const Processors& place : places) {
    const auto sharers = std::count(places.begin(), places.end(), place);
    binding.places.push_back({place, static_cast<int>(sharers)});
  }
  return binding;
}

}  // namespace catena::launcher
