#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

namespace catena::launcher {

/// What merge_traces() found.
struct MergedTrace {
  int ranks = 0;                     ///< whose traces are in the file
  std::int64_t first = 0, last = 0;  ///< steps
  std::int64_t events = 0, left_out = 0;
  int hosts = 0;
  std::vector<int> missing;  ///< ranks of that run without a file of its steps
};

/// Makes one file of all ranks' RUN/trace/rank-R.json, as
/// training/timeline.h describes them. Time 0 is the first begin of any rank.
/// Ranks of one host share its clock, and stay as far apart as they were; those
/// of several hosts are as near as the calendars of these hosts.
/// A file that is of other steps, or of another number of ranks, than that of
/// the lowest rank is not taken, and its rank is missing.
/// Throws: Error(kUsage) where there is no trace; Error(kData) that says where
/// a file is no trace, or cut short; Error(kIo).
MergedTrace merge_traces(const std::filesystem::path& run,
                         const std::filesystem::path& output);

}  // namespace catena::launcher
