// A document's logits are its own: neighbours, chunks and the way it is fed
// through a cache do not show.

#include "tests/layers/model_fixture.h"

namespace catena::testing {
namespace {

class SequenceTest : public ::testing::TestWithParam<Options> {};

/// Logits of the last of each piece that is fed to the cache.
Values extended(ModelFixture& f, const Batch& row,
                const std::vector<std::int64_t>& pieces) {
  auto caches = f.model.make_caches(row.size());
  Values result;
  std::int64_t past = 0;
  for (const std::int64_t piece : pieces) {
    const std::span<const std::int32_t> ids(row.ids);
    const TensorView logits =
        f.model.extend(ids.subspan(static_cast<std::size_t>(past),
                                   static_cast<std::size_t>(piece)),
                       past, caches, *f.chunks[0]);
    result = naive::joined(result, read_values(*f.backend, logits));
    past += piece;
  }
  return result;
}

TEST_P(SequenceTest, ACacheGivesTheLogitsOfTheWholeSequence) {
  const ModelConfig& config = GetParam().config;
  Batch row;
  add_row(row, {13}, config.vocabulary, 4);
  const auto width = static_cast<std::size_t>(config.vocabulary);
  for (const DType dtype : {DType::kFloat64, DType::kFloat32}) {
    ModelFixture f(config, dtype);
    const double tolerance = dtype == DType::kFloat64 ? 1e-10 : 1e-4;
    const Values whole = f.logits(row);
    for (const std::vector<std::int64_t>& pieces :
         {std::vector<std::int64_t>(13, 1), {13}, {5, 1, 1, 4, 2}}) {
      Values expected;
      std::int64_t end = 0;
      for (const std::int64_t piece : pieces) {
        end += piece;
        expected = naive::joined(
            expected,
            naive::part(whole, static_cast<std::size_t>(end - 1) * width,
                        width));
      }
      EXPECT_LE(largest_difference(extended(f, row, pieces), expected),
                tolerance)
          << name(dtype) << ", " << pieces.size() << " pieces";
    }
  }
}

// To the bit: a row of a product does not depend on how many others there
// are, and sums over keys begin at the document's first.
TEST_P(SequenceTest, ADocumentDoesNotDependOnItsNeighbours) {
  const ModelConfig& config = GetParam().config;
  const Batch batch = packed_batch(config.vocabulary);
  const auto width = static_cast<std::size_t>(config.vocabulary);
  for (const DType dtype : {DType::kFloat64, DType::kFloat32}) {
    ModelFixture f(config, dtype);
    const Values all = f.logits(batch);
    for (std::size_t i = 0; i < batch.ids.size();) {
      std::size_t end = i + 1;
      while (end < batch.ids.size() && batch.positions[end] > 0) ++end;
      Batch alone;
      for (std::size_t j = i; j < end; ++j) {
        alone.ids.push_back(batch.ids[j]);
        alone.targets.push_back(batch.targets[j]);
        alone.positions.push_back(batch.positions[j]);
        alone.first.push_back(0);
      }
      alone.row_offsets.push_back(alone.size());
      EXPECT_EQ(f.logits(alone), naive::part(all, i * width, (end - i) * width))
          << name(dtype) << ", document at " << i;
      i = end;
    }
  }
}

TEST_P(SequenceTest, LaterTokensDoNotReachEarlierOnes) {
  const ModelConfig& config = GetParam().config;
  ModelFixture f(config, DType::kFloat64);
  Batch row;
  add_row(row, {9}, config.vocabulary, 4);
  const Values before = f.logits(row);
  row.ids[6] = static_cast<std::int32_t>((row.ids[6] + 1) % config.vocabulary);
  const Values after = f.logits(row);
  const auto unchanged = static_cast<std::size_t>(6 * config.vocabulary);
  EXPECT_EQ(naive::part(before, 0, unchanged),
            naive::part(after, 0, unchanged));
  EXPECT_NE(before, after);
}

INSTANTIATE_TEST_SUITE_P(Options, SequenceTest,
                         ::testing::ValuesIn(all_options()), options_name);

TEST(CacheTest, RefusesMoreTokensThanItHolds) {
  ModelFixture f(small_config(), DType::kFloat32);
  auto caches = f.model.make_caches(3);
  const std::vector<std::int32_t> ids{1, 2, 3};
  EXPECT_NO_THROW((void)f.model.extend(ids, 0, caches, *f.chunks[0]));
  EXPECT_THROW(
      (void)f.model.extend(std::span(ids).first(1), 3, caches, *f.chunks[0]),
      Error);
  EXPECT_THROW((void)f.model.extend({}, 0, caches, *f.chunks[0]), Error);
}

}  // namespace
}  // namespace catena::testing
