#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace catena::launcher {

/// No list of hosts, and no list of counts, may name more.
inline constexpr std::size_t kMostHosts = 65536;

/// The names that a Slurm node list stands for, in its order:
///
///   list  = item {"," item}
///   item  = {letters, digits, "-", "_" and "." | "[" range {"," range} "]"}
///   range = number | number "-" number
///
/// A number is as wide as the first of its range is written: [08-10] is 08, 09,
/// 10, and [8-10] is 8, 9, 10. Of several brackets the last counts fastest:
/// r[1-2]n[01-02] is r1n01, r1n02, r2n01, r2n02. What `scontrol show hostnames`
/// prints, but that text may follow the last bracket of an item, and that a
/// name which is there twice, begins with a dash or has more than 255
/// characters is refused. An empty text is no list.
///
/// source  what `text` is, such as SLURM_JOB_NODELIST, for messages
/// Throws: Error(kConfig) with source and column, also where there are more
///   than kMostHosts; nothing of that size is made before.
/// Source: Slurm, src/common/hostlist.c.
[[nodiscard]] std::vector<std::string> expand_node_list(
    std::string_view text, std::string_view source);

/// The count of each node in a list such as SLURM_TASKS_PER_NODE:
/// "2(x3),1" is 2, 2, 2, 1. Each is from 1 to kMostHosts.
/// Throws: as expand_node_list().
[[nodiscard]] std::vector<int> expand_counts(std::string_view text,
                                             std::string_view source);

}  // namespace catena::launcher
