#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "parallel/placement.h"

namespace catena {

/// What a file of placements has to be of.
struct PlacementShape {
  std::int64_t experts = 1;
  int ranks = 1;            ///< that share experts
  std::int64_t layers = 1;  ///< with a chain
};

/// Which ranks of a group hold which experts, in TOML:
///
///   ranks = 3                       # as parallel.expert
///   experts = [0, 1, [1, 2], 0, 2]  # of expert 0, 1, ...: its rank or ranks
///   [[layer]]                       # a layer with a placement of its own
///   number = 2                      # of those with a chain, from 0
///   experts = [2, [0, 1], 1, 0, 2]
///
/// Every rank holds one expert at least.
/// Throws: Error(kConfig) with FILE:LINE:COLUMN where an expert or a rank is
/// missing, named twice or does not exist, or the file is for other ranks.
[[nodiscard]] Placements read_placement_file(const std::filesystem::path& path,
                                             const PlacementShape& shape);
/// The same of text; `name` stands for the file.
[[nodiscard]] Placements parse_placements(std::string_view text,
                                          const std::string& name,
                                          const PlacementShape& shape);

}  // namespace catena
