#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace catena {

/// The candidate that needs the fewest edits (insert, delete, replace, swap of
/// neighbours) to become `name`, or "" if none is within a third of its
/// length. For "did you mean".
[[nodiscard]] std::string nearest_name(
    std::string_view name, const std::vector<std::string>& candidates);

}  // namespace catena
