#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace catena::launcher {

/// A host of a job.
struct Host {
  std::string name;       ///< or an address; an IPv6 one without its brackets
  std::string user = {};  ///< to log in as; empty: our own
  int slots = 0;          ///< ranks for it; 0: not said
  bool operator==(const Host&) const = default;
};

// Pure functions from text to hosts. What they have in common: a name is
// letters, digits, "-", "_" and ".", not with a dash first; an IPv6 address
// stands in brackets; slots are from 1 to kMostHosts; a host that is there
// twice, whatever its user or the case of its letters, is refused with both
// places; no list is empty or has more than kMostHosts hosts.
// All throw: Error(kConfig) with source (or path and line) and column.

/// "a,b:4,user@c,[::1]:2". `source` names it, such as --hosts.
[[nodiscard]] std::vector<Host> parse_hosts(std::string_view text,
                                            std::string_view source);

/// A hostfile: a host a line, as in parse_hosts() or with " slots=4" behind
/// it; "#" to the end of a line, blanks, empty lines and a carriage return at
/// the end are passed over. `path` names it; the file itself is not read.
[[nodiscard]] std::vector<Host> parse_hostfile(std::string_view text,
                                               std::string_view path);

/// The hosts of a Slurm allocation: SLURM_JOB_NODELIST, and
/// SLURM_TASKS_PER_NODE for their slots (empty: not said). Lists of different
/// lengths are refused.
[[nodiscard]] std::vector<Host> slurm_hosts(std::string_view node_list,
                                            std::string_view tasks_per_node);

/// "user@[::1]:2", and such joined by commas: parse_hosts() gives them back.
[[nodiscard]] std::string host_text(const Host& host);
[[nodiscard]] std::string hosts_text(const std::vector<Host>& hosts);

}  // namespace catena::launcher
