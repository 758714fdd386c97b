#include <algorithm>
#include <utility>

#include "runtime/cpu/backend.h"
#include "runtime/cpu/rows.h"

namespace catena::cpu {
namespace {

/// counts[i] becomes the sum of those before it; the last entry is their sum.
void to_begins(std::int32_t* counts, std::int64_t count) {
  std::int32_t sum = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    sum += std::exchange(counts[i], sum);
  }
}

/// The group of every entry, -1 if it is left out.
class Groups {
 public:
  explicit Groups(const GroupRows& k)
      : map_(k.map.defined() ? k.map.as<std::int32_t>() : nullptr),
        mapped_(k.map.elements()),
        groups_(k.offsets.size(0) - 1) {}

  [[nodiscard]] std::int32_t operator()(std::int32_t index,
                                        std::int64_t row) const {
    std::int32_t group = index;
    if (map_ != nullptr && index >= 0) {
      CATENA_CHECK(index < mapped_, "[group_rows] row {} has index {} of {}",
                   row, index, mapped_);
      group = map_[index];
    }
    CATENA_CHECK(group < groups_, "[group_rows] row {} is in group {} of {}",
                 row, group, groups_);
    return group;
  }

 private:
  const std::int32_t* map_;
  std::int64_t mapped_, groups_;
};

}  // namespace

void CpuKernels::run(const GroupRows& k) {
  const std::int64_t rows = k.index.size(0), choices = k.index.size(1);
  const std::int64_t groups = k.offsets.size(0) - 1;
  const Groups group_of(k);
  const std::int32_t* indices = k.index.as<std::int32_t>();
  std::int32_t* offsets = k.offsets.as<std::int32_t>();
  std::int32_t* places = k.place.as<std::int32_t>();
  std::int32_t* entry = k.entry.as<std::int32_t>();
  std::int32_t* row = k.row.as<std::int32_t>();
  std::fill_n(offsets, groups + 1, 0);
  for (std::int64_t i = 0; i < rows; ++i) {
    const std::int32_t* index = row_of(indices, k.index, i);
    for (std::int64_t j = 0; j < choices; ++j) {
      const std::int32_t group = group_of(index[j], i);
      if (group >= 0) ++offsets[group];
    }
  }
  to_begins(offsets, groups + 1);
  // Placing moves offsets[g] from the begin of group g to its end, which is
  // where the next group begins: shifting by one restores them.
  for (std::int64_t i = 0; i < rows; ++i) {
    const std::int32_t* index = row_of(indices, k.index, i);
    std::int32_t* place = row_of(places, k.place, i);
    for (std::int64_t j = 0; j < choices; ++j) {
      const std::int32_t group = group_of(index[j], i);
      place[j] = group < 0 ? -1 : offsets[group]++;
      if (group < 0) continue;
      entry[place[j]] = static_cast<std::int32_t>(i * choices + j);
      row[place[j]] = static_cast<std::int32_t>(i);
    }
  }
  std::copy_backward(offsets, offsets + groups, offsets + groups + 1);
  offsets[0] = 0;
}

void CpuKernels::run(const PartitionRows& k) {
  const std::int64_t rows = k.index.size(0), choices = k.index.size(1);
  const std::int64_t parts = k.counts.size(1), most = k.copy.size(1);
  const std::int32_t* indices = k.index.as<std::int32_t>();
  const std::int32_t* owner = k.owner.as<std::int32_t>();
  std::int32_t* counts = row_of(k.counts.as<std::int32_t>(), k.counts, 0);
  std::int32_t* owned = row_of(k.counts.as<std::int32_t>(), k.counts, 1);
  std::int32_t* row = k.row.as<std::int32_t>();
  std::int32_t* before = k.before.as<std::int32_t>();
  std::int32_t* kept = k.kept.as<std::int32_t>();
  // The parts of each row, ascending, each once, in `copy` for now.
  std::fill_n(counts, parts, 0);
  std::fill_n(owned, parts, 0);
  for (std::int64_t i = 0; i < rows; ++i) {
    const std::int32_t* index = row_of(indices, k.index, i);
    std::int32_t* const copy = row_of(k.copy.as<std::int32_t>(), k.copy, i);
    std::int32_t* end = copy;
    for (std::int64_t j = 0; j < choices; ++j) {
      if (index[j] < 0) continue;
      CATENA_CHECK(index[j] < k.owner.size(0),
                   "[partition_rows] row {} has index {} of {}", i, index[j],
                   k.owner.size(0));
      const std::int32_t part = owner[index[j]];
      CATENA_CHECK(part >= 0 && part < parts,
                   "[partition_rows] index {} is owned by part {} of {}",
                   index[j], part, parts);
      std::int32_t* const at = std::lower_bound(copy, end, part);
      if (at != end && *at == part) continue;
      std::copy_backward(at, end, end + 1);
      *at = part;
      ++end;
      ++counts[part];
    }
    std::fill(end, copy + most, -1);
  }
  to_begins(counts, parts);
  for (std::int64_t i = 0; i < rows; ++i) {
    const std::int32_t* index = row_of(indices, k.index, i);
    std::int32_t* const copy = row_of(k.copy.as<std::int32_t>(), k.copy, i);
    std::int32_t* const place = row_of(k.place.as<std::int32_t>(), k.place, i);
    for (std::int64_t c = 0; c < most && copy[c] >= 0; ++c) {
      std::fill_n(row_of(kept, k.kept, counts[copy[c]]), choices, -1);
    }
    for (std::int64_t j = 0; j < choices; ++j) {
      place[j] = -1;
      if (index[j] < 0) continue;
      const std::int32_t number = counts[owner[index[j]]];
      place[j] = static_cast<std::int32_t>(number * choices + j);
      row_of(kept, k.kept, number)[j] = index[j];
    }
    for (std::int64_t c = 0; c < most && copy[c] >= 0; ++c) {
      const std::int32_t part = copy[c], number = counts[part]++;
      const std::int32_t* const of_copy = row_of(kept, k.kept, number);
      row[number] = static_cast<std::int32_t>(i);
      before[number] = owned[part];
      owned[part] += static_cast<std::int32_t>(std::count_if(
          of_copy, of_copy + choices, [](std::int32_t j) { return j >= 0; }));
      copy[c] = number;
    }
  }
  // Each count has become the end of its part.
  for (std::int64_t part = parts - 1; part > 0; --part) {
    counts[part] -= counts[part - 1];
  }
}

}  // namespace catena::cpu
