#include <algorithm>

#include "tests/support/kernel_testing.h"

namespace catena::testing {
namespace {

struct Groups {
  Values offsets, place, entry, row;
};

Groups group(Backend& backend, const Values& index, std::int64_t choices,
             std::int64_t groups, const Values* map = nullptr) {
  const auto entries = static_cast<std::int64_t>(index.size());
  const Shape shape{choices == 0 ? 0 : entries / choices, choices};
  const TestTensor in(backend, DType::kInt32, shape, index, 1);
  const TestTensor mapped(
      backend, DType::kInt32,
      {map != nullptr ? static_cast<std::int64_t>(map->size()) : 0},
      map != nullptr ? *map : Values());
  const TestTensor offsets(backend, DType::kInt32, {groups + 1});
  const TestTensor place(backend, DType::kInt32, shape, 2);
  const TestTensor entry(backend, DType::kInt32, {entries});
  const TestTensor row(backend, DType::kInt32, {entries});
  backend.kernels()(
      GroupRows{.index = in,
                .map = map != nullptr ? mapped.view() : TensorView(),
                .offsets = offsets,
                .place = place,
                .entry = entry,
                .row = row});
  EXPECT_TRUE(place.padding_intact());
  Groups result{.offsets = offsets.values(),
                .place = place.values(),
                .entry = entry.values(),
                .row = row.values()};
  result.entry.resize(static_cast<std::size_t>(result.offsets.back()));
  result.row.resize(result.entry.size());
  return result;
}

void expect_sorted(const Values& index, std::int64_t choices,
                   std::int64_t groups, const Values* map = nullptr) {
  const Groups sorted = group(cpu(2), index, choices, groups, map);
  const auto group_of = [&](std::size_t e) {
    if (map == nullptr || index[e] < 0) return index[e];
    return (*map)[static_cast<std::size_t>(index[e])];
  };
  Values offsets{0}, entry, row;
  for (std::int64_t g = 0; g < groups; ++g) {
    for (std::size_t e = 0; e < index.size(); ++e) {
      if (group_of(e) < 0) {
        EXPECT_EQ(sorted.place[e], -1);
      }
      if (group_of(e) != static_cast<double>(g)) continue;
      EXPECT_EQ(sorted.place[e], static_cast<double>(entry.size()));
      entry.push_back(static_cast<double>(e));
      row.push_back(static_cast<double>(e / static_cast<std::size_t>(choices)));
    }
    offsets.push_back(static_cast<double>(entry.size()));
  }
  EXPECT_EQ(sorted.offsets, offsets);
  EXPECT_EQ(sorted.entry, entry);
  EXPECT_EQ(sorted.row, row);
}

void expect_sorted(std::int64_t rows, std::int64_t choices,
                   std::int64_t groups) {
  expect_sorted(random_integers(rows * choices, 1, 0, groups), choices, groups);
  expect_sorted(random_integers(rows * choices, 1, -1, groups), choices,
                groups);
  const Values map = random_integers(2 * groups, 2, -1, groups);
  expect_sorted(random_integers(rows * choices, 1, -1, 2 * groups), choices,
                groups, &map);
}

TEST(GroupRowsTest, SortsStably) {
  for (const std::int64_t rows : {0, 1, 17, 129}) {
    for (const std::int64_t choices : {1, 3}) {
      for (const std::int64_t groups : {1, 5, 64}) {
        expect_sorted(rows, choices, groups);
      }
    }
  }
}

TEST(GroupRowsTest, SortsRandomShapes) {
  for_random_shapes([](Sizes& draw) {
    expect_sorted(draw(0, 130), draw(1, 9), draw(1, 65));
  });
}

TEST(GroupRowsTest, AcceptsNoGroupsAndNoRows) {
  EXPECT_EQ(group(cpu(1), {}, 2, 0).offsets, Values{0});
  EXPECT_EQ(group(cpu(1), {-1, -1}, 2, 0).place, (Values{-1, -1}));
}

TEST(GroupRowsTest, RefusesGroupsOutOfRange) {
  EXPECT_THROW(group(cpu(1), {0, 4}, 1, 4), Error);
  const Values map{0, 4};
  EXPECT_THROW(group(cpu(1), {2, 0}, 1, 4, &map), Error);
  EXPECT_THROW(group(cpu(1), {1, 0}, 1, 4, &map), Error);
}

/// As kernels.h says it, in loops.
void expect_partitioned(std::int64_t rows, std::int64_t choices,
                        std::int64_t indices, std::int64_t parts) {
  const Values owner = random_integers(indices, 1, 0, parts);
  // Some are left out.
  const Values index = random_integers(rows * choices, 2, -2, indices);
  const std::int64_t most = std::min(choices, parts);
  Backend& backend = cpu(2);
  const TestTensor in(backend, DType::kInt32, {rows, choices}, index, 1);
  const TestTensor owners(backend, DType::kInt32, {indices}, owner);
  const TestTensor counts(backend, DType::kInt32, {2, parts});
  const TestTensor before(backend, DType::kInt32, {rows * most});
  const TestTensor row(backend, DType::kInt32, {rows * most});
  const TestTensor copy(backend, DType::kInt32, {rows, most}, 3);
  const TestTensor place(backend, DType::kInt32, {rows, choices}, 2);
  const TestTensor kept(backend, DType::kInt32, {rows * most, choices}, 1);
  backend.kernels()(PartitionRows{.index = in,
                                  .owner = owners,
                                  .counts = counts,
                                  .row = row,
                                  .before = before,
                                  .copy = copy,
                                  .place = place,
                                  .kept = kept});
  EXPECT_TRUE(copy.padding_intact());
  EXPECT_TRUE(place.padding_intact());
  const auto part_of = [&](std::int64_t i, std::int64_t j) {
    const double chosen = index[static_cast<std::size_t>(i * choices + j)];
    return chosen < 0 ? -1 : owner[static_cast<std::size_t>(chosen)];
  };
  Values expected_counts, expected_owned, expected_row, expected_before,
      expected_kept;
  Values expected_place(index.size(), -1);
  std::vector<Values> copies(static_cast<std::size_t>(rows));
  for (std::int64_t part = 0; part < parts; ++part) {
    const std::size_t first = expected_row.size();
    double owned = 0;
    for (std::int64_t i = 0; i < rows; ++i) {
      bool wanted = false;
      for (std::int64_t j = 0; j < choices; ++j) {
        if (part_of(i, j) != static_cast<double>(part)) continue;
        wanted = true;
        expected_place[static_cast<std::size_t>(i * choices + j)] =
            static_cast<double>(expected_row.size()) *
                static_cast<double>(choices) +
            static_cast<double>(j);
      }
      if (!wanted) continue;
      expected_before.push_back(owned);
      for (std::int64_t j = 0; j < choices; ++j) {
        const bool here = part_of(i, j) == static_cast<double>(part);
        owned += here ? 1 : 0;
        expected_kept.push_back(
            here ? index[static_cast<std::size_t>(i * choices + j)] : -1);
      }
      copies[static_cast<std::size_t>(i)].push_back(
          static_cast<double>(expected_row.size()));
      expected_row.push_back(static_cast<double>(i));
    }
    expected_counts.push_back(static_cast<double>(expected_row.size() - first));
    expected_owned.push_back(owned);
  }
  expected_counts.insert(expected_counts.end(), expected_owned.begin(),
                         expected_owned.end());
  Values expected_copy;
  for (Values& of_row : copies) {
    of_row.resize(static_cast<std::size_t>(most), -1);
    expected_copy.insert(expected_copy.end(), of_row.begin(), of_row.end());
  }
  Values found = row.values();
  found.resize(expected_row.size());
  EXPECT_EQ(counts.values(), expected_counts);
  EXPECT_EQ(found, expected_row);
  found = before.values();
  found.resize(expected_before.size());
  EXPECT_EQ(found, expected_before);
  EXPECT_EQ(copy.values(), expected_copy);
  EXPECT_EQ(place.values(), expected_place);
  Values found_kept = kept.values();
  found_kept.resize(expected_kept.size());
  EXPECT_EQ(found_kept, expected_kept);
}

TEST(PartitionRowsTest, CopiesEachRowOnceToAPart) {
  for (const std::int64_t rows : {0, 1, 17, 129}) {
    for (const std::int64_t choices : {1, 2, 5}) {
      for (const std::int64_t parts : {1, 2, 3, 8}) {
        expect_partitioned(rows, choices, 13, parts);
      }
    }
  }
}

TEST(PartitionRowsTest, CopiesRandomShapes) {
  for_random_shapes([](Sizes& draw) {
    expect_partitioned(draw(0, 130), draw(1, 9), draw(1, 65), draw(1, 17));
  });
}

TEST(PartitionRowsTest, RefusesWhatNobodyOwns) {
  Backend& backend = cpu(1);
  const TestTensor counts(backend, DType::kInt32, {2, 2});
  const TestTensor before(backend, DType::kInt32, {1});
  const TestTensor row(backend, DType::kInt32, {1});
  const TestTensor copy(backend, DType::kInt32, {1, 1});
  const TestTensor place(backend, DType::kInt32, {1, 1});
  const TestTensor kept(backend, DType::kInt32, {1, 1});
  const auto partition = [&](double index, double owner) {
    const TestTensor in(backend, DType::kInt32, {1, 1}, Values{index});
    const TestTensor owners(backend, DType::kInt32, {1}, Values{owner});
    backend.kernels()(PartitionRows{.index = in,
                                    .owner = owners,
                                    .counts = counts,
                                    .row = row,
                                    .before = before,
                                    .copy = copy,
                                    .place = place,
                                    .kept = kept});
  };
  EXPECT_NO_THROW(partition(0, 1));
  EXPECT_THROW(partition(1, 0), Error);
  EXPECT_NO_THROW(partition(-1, 0));
  EXPECT_THROW(partition(0, 2), Error);
  EXPECT_THROW(partition(0, -1), Error);
}

}  // namespace
}  // namespace catena::testing
