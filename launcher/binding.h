#pragma once

#include <sched.h>

#include <string>
#include <string_view>
#include <vector>

namespace catena::launcher {

/// What of its machine a rank may run on.
enum class Bind {
  kNone,  ///< all that its agent may
  kCore,  ///< its share of the cores
  kNuma,  ///< the NUMA nodes that its share of the cores begins in
};
[[nodiscard]] const char* name_of(Bind bind);
/// Of "none", "core" and "numa". Throws: Error(kUsage) naming --bind.
[[nodiscard]] Bind bind_named(std::string_view name);

/// Processors, as the kernel numbers them; ascending.
using Processors = std::vector<int>;
/// "0-3,8".
[[nodiscard]] std::string list_text(const Processors& processors);
/// As sched_setaffinity() takes them; empty where there are none.
using ProcessorMask = std::vector<cpu_set_t>;
[[nodiscard]] ProcessorMask mask_of(const Processors& processors);
/// The calling thread, and those that it starts, run there alone from now on;
/// where they may not, or the mask is empty, nothing changes. Allocates
/// nothing.
void bind_caller(const ProcessorMask& mask) noexcept;

/// What of a machine this process may use.
struct Machine {
  std::vector<Processors> cores = {};  ///< neighbours stand side by side
  /// Those of each NUMA node, in order; cores that are in none are one more.
  std::vector<Processors> nodes = {};
};
/// This one. Throws: Error(kInternal) where hwloc does not know it.
[[nodiscard]] Machine machine_here();
/// One that is described as hwloc's synthetic topologies are: "node:2 core:4
/// pu:2". Throws: Error(kUsage).
[[nodiscard]] Machine synthetic_machine(const std::string& description);

/// Which of the ranks that a job has on one machine an agent has: those from
/// `first` on, of `of`.
struct RankShare {
  int first = 0, of = 1;
  friend bool operator==(const RankShare&, const RankShare&) = default;
};

/// Where the ranks of one machine run.
struct Binding {
  struct Place {
    Processors processors;
    int sharers = 1;  ///< ranks that have the same ones
  };
  std::vector<Place> places = {};  ///< of each rank; none: they are not bound
  std::string why_not = {};        ///< although it was wanted; else ""
};
/// Shares are whole cores, as equal as can be, in order, the first ones larger
/// by one; ranks that are more than the cores are not bound.
[[nodiscard]] Binding bind_ranks(const Machine& machine, Bind how, int ranks);

}  // namespace catena::launcher
