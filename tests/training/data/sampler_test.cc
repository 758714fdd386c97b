#include "training/data/sampler.h"

#include <map>

#include "tests/training/data/dataset_fixture.h"

namespace catena::data {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Documents = std::vector<std::vector<std::int32_t>>;

class SamplerTest : public DatasetFolderTest {
 protected:
  /// Documents whose tokens name themselves: 100 * document + place.
  static Documents numbered(const std::vector<int>& lengths) {
    Documents documents;
    for (std::size_t d = 0; d < lengths.size(); ++d) {
      documents.emplace_back();
      for (int i = 0; i < lengths[d]; ++i) {
        documents.back().push_back(static_cast<std::int32_t>(100 * d) + i);
      }
    }
    return documents;
  }

  static std::vector<int> random_lengths(int count, int most) {
    std::mt19937 random(5);
    std::vector<int> lengths;
    for (int i = 0; i < count; ++i) {
      lengths.push_back(static_cast<int>(random() % most));
    }
    return lengths;
  }

  static SamplerOptions options(std::int64_t sequence, bool shuffle = true) {
    SamplerOptions made;
    made.sequence = sequence;
    made.shuffle = shuffle;
    made.seed = 42;
    return made;
  }

  /// What holds for any batch.
  static void check(const Batch& batch) {
    ASSERT_EQ(batch.row_offsets.size(),
              static_cast<std::size_t>(batch.rows) + 1);
    const auto tokens = static_cast<std::int64_t>(batch.tokens.size());
    ASSERT_EQ(batch.row_offsets.back(), tokens);
    ASSERT_EQ(batch.targets.size(), batch.tokens.size());
    ASSERT_EQ(batch.positions.size(), batch.tokens.size());
    ASSERT_EQ(batch.first.size(), batch.tokens.size());
    EXPECT_EQ(batch.trained_tokens,
              std::count_if(batch.targets.begin(), batch.targets.end(),
                            [](std::int32_t t) { return t >= 0; }));
    for (std::int64_t row = 0; row < batch.rows; ++row) {
      const auto at = static_cast<std::size_t>(row);
      const std::int64_t begin = batch.row_offsets[at];
      const std::int64_t end = batch.row_offsets[at + 1];
      EXPECT_GT(end, begin);
      EXPECT_LE(end - begin, batch.sequence);
      for (std::int64_t i = begin; i < end; ++i) {
        const auto t = static_cast<std::size_t>(i);
        EXPECT_GE(batch.first[t], begin);
        EXPECT_EQ(batch.first[t] + batch.positions[t], i);
      }
    }
  }

  /// All rows of one epoch, each as "token>target" pairs.
  static std::multimap<std::int32_t, std::int32_t> epoch(Sampler& sampler,
                                                         std::int64_t rows) {
    std::multimap<std::int32_t, std::int32_t> pairs;
    Batch batch;
    while (sampler.next_without_wrapping(rows, batch)) {
      check(batch);
      for (std::size_t i = 0; i < batch.tokens.size(); ++i) {
        pairs.emplace(batch.tokens[i], batch.targets[i]);
      }
    }
    EXPECT_EQ(batch.rows, 0);
    return pairs;
  }

  static std::multimap<std::int32_t, std::int32_t> all_pairs(
      const Documents& documents) {
    std::multimap<std::int32_t, std::int32_t> pairs;
    for (const auto& document : documents) {
      for (std::size_t i = 0; i + 1 < document.size(); ++i) {
        pairs.emplace(document[i], document[i + 1]);
      }
    }
    return pairs;
  }
};

TEST_F(SamplerTest, PacksWholeDocumentsNextFit) {
  const Dataset dataset = made_of(numbered({3, 4, 3, 2}));
  Sampler sampler(dataset, options(5, false));
  Batch batch;
  ASSERT_TRUE(sampler.next_without_wrapping(2, batch));
  check(batch);
  EXPECT_THAT(batch.row_offsets, ElementsAre(0, 5, 8));
  EXPECT_THAT(batch.tokens, ElementsAre(0, 1, 100, 101, 102, 200, 201, 300));
  EXPECT_THAT(batch.targets, ElementsAre(1, 2, 101, 102, 103, 201, 202, 301));
  EXPECT_THAT(batch.positions, ElementsAre(0, 1, 0, 1, 2, 0, 1, 0));
  EXPECT_THAT(batch.first, ElementsAre(0, 0, 2, 2, 2, 5, 5, 7));
  EXPECT_EQ(batch.padding_tokens, 2);
  EXPECT_EQ(batch.trained_tokens, 8);
}

TEST_F(SamplerTest, CutsLongDocumentsIntoPieces) {
  const Dataset dataset = made_of(numbered({3, 10, 3}));
  Sampler sampler(dataset, options(4, false));
  Batch batch;
  ASSERT_TRUE(sampler.next_without_wrapping(10, batch));
  check(batch);
  EXPECT_THAT(batch.row_offsets, ElementsAre(0, 2, 6, 10, 13));
  EXPECT_THAT(batch.tokens, ElementsAre(0, 1, 100, 101, 102, 103, 104, 105, 106,
                                        107, 108, 200, 201));
  EXPECT_THAT(batch.targets, ElementsAre(1, 2, 101, 102, 103, 104, 105, 106,
                                         107, 108, 109, 201, 202));
  EXPECT_FALSE(sampler.next_without_wrapping(10, batch));
}

TEST_F(SamplerTest, EveryTargetAppearsOnceAnEpoch) {
  const Documents documents = numbered(random_lengths(300, 60));
  const Dataset dataset = made_of(documents);
  for (const std::int64_t sequence : {1, 7, 32, 1000}) {
    Sampler sampler(dataset, options(sequence));
    EXPECT_EQ(epoch(sampler, 3), all_pairs(documents)) << sequence;
  }
}

TEST_F(SamplerTest, PaddedRowsCoverTheSameTargets) {
  const Documents documents = numbered(random_lengths(100, 30));
  const Dataset dataset = made_of(documents);
  SamplerOptions padded = options(64);
  padded.packing = Packing::kPadded;
  Sampler sampler(dataset, padded);
  EXPECT_EQ(epoch(sampler, 4), all_pairs(documents));
}

TEST_F(SamplerTest, PaddedRowsCutOffLongDocuments) {
  const Dataset dataset = made_of(numbered({9, 3}));
  SamplerOptions padded = options(4, false);
  padded.packing = Packing::kPadded;
  Sampler sampler(dataset, padded);
  Batch batch;
  sampler.next(2, batch);
  check(batch);
  EXPECT_THAT(batch.tokens, ElementsAre(0, 1, 2, 3, 100, 101));
  EXPECT_THAT(batch.targets, ElementsAre(1, 2, 3, 4, 101, 102));
  EXPECT_EQ(batch.padding_tokens, 2);
}

TEST_F(SamplerTest, PassesOverAndCountsShortDocuments) {
  const Documents documents = numbered({0, 1, 3, 1});
  const Dataset dataset = made_of(documents);
  Sampler sampler(dataset, options(4));
  EXPECT_EQ(sampler.short_documents(), 3);
  EXPECT_EQ(epoch(sampler, 1), all_pairs(documents));
}

TEST_F(SamplerTest, ShufflesEachEpochAnew) {
  const Dataset dataset = made_of(numbered(std::vector<int>(50, 3)));
  SamplerOptions padded = options(4);
  padded.packing = Packing::kPadded;
  Sampler sampler(dataset, padded), other_seed(dataset, [&] {
    auto changed = padded;
    changed.seed = 43;
    return changed;
  }());
  Batch first, second, other;
  sampler.next(50, first);
  EXPECT_EQ(sampler.documents_seen(), 50);
  sampler.next(50, second);
  EXPECT_EQ(sampler.epoch(), 1);
  other_seed.next(50, other);
  EXPECT_NE(first.tokens, second.tokens);
  EXPECT_NE(first.tokens, other.tokens);
  EXPECT_FALSE(std::is_sorted(first.tokens.begin(), first.tokens.end()));
  std::sort(first.tokens.begin(), first.tokens.end());
  std::sort(second.tokens.begin(), second.tokens.end());
  EXPECT_EQ(first.tokens, second.tokens);
}

TEST_F(SamplerTest, GoesOnFromAnyState) {
  const Dataset dataset = made_of(numbered(random_lengths(40, 50)));
  for (const Packing packing : {Packing::kPacked, Packing::kPadded}) {
    SamplerOptions made = options(16);
    made.packing = packing;
    Sampler sampler(dataset, made);
    for (int step = 0; step < 60; ++step) {
      Sampler resumed(dataset, made);
      resumed.restore(sampler.state());
      Batch expected, got;
      sampler.next(3, expected);
      resumed.next(3, got);
      EXPECT_EQ(got.tokens, expected.tokens);
      EXPECT_EQ(got.targets, expected.targets);
      EXPECT_EQ(got.row_offsets, expected.row_offsets);
      EXPECT_EQ(resumed.state(), sampler.state());
    }
    EXPECT_GT(sampler.epoch(), 1);
  }
}

TEST_F(SamplerTest, RowsDoNotDependOnHowManyAreAskedFor) {
  const Dataset dataset = made_of(numbered(random_lengths(40, 50)));
  Sampler one(dataset, options(16)), many(dataset, options(16));
  Batch batch, all;
  many.next(150, all);
  std::vector<std::int32_t> tokens;
  for (int row = 0; row < 150; ++row) {
    one.next(1, batch);
    tokens.insert(tokens.end(), batch.tokens.begin(), batch.tokens.end());
  }
  EXPECT_EQ(tokens, all.tokens);
}

TEST_F(SamplerTest, TrainsOnResponsesOnly) {
  const Dataset dataset = made_of(numbered({5, 4, 9}), {2, 0, 7});
  SamplerOptions made = options(4, false);
  made.response_only = true;
  Sampler sampler(dataset, made);
  Batch batch;
  ASSERT_TRUE(sampler.next_without_wrapping(9, batch));
  check(batch);
  EXPECT_THAT(batch.targets, ElementsAre(-1, 2, 3, 4, 101, 102, 103, -1, -1, -1,
                                         -1, -1, -1, 207, 208));
  EXPECT_EQ(batch.trained_tokens, 8);
}

class ParitySamplerTest : public SamplerTest {
 protected:
  static SamplerOptions parity() {
    SamplerOptions made = options(4, false);
    made.packing = Packing::kPadded;
    made.keep_padding = true;
    made.padding_token = 7;
    return made;
  }
};

TEST_F(ParitySamplerTest, FirstPaddingTokenOfAShortRowIsATarget) {
  const Dataset dataset = made_of(numbered({2, 4, 6}), {}, false);
  Sampler sampler(dataset, parity());
  Batch batch;
  sampler.next(3, batch);
  check(batch);
  EXPECT_THAT(batch.row_offsets, ElementsAre(0, 4, 8, 12));
  EXPECT_THAT(batch.tokens,
              ElementsAre(0, 1, 7, 7, 100, 101, 102, 103, 200, 201, 202, 203));
  EXPECT_THAT(batch.targets,
              ElementsAre(1, 7, -1, -1, 101, 102, 103, -1, 201, 202, 203, -1));
  EXPECT_EQ(batch.padding_tokens, 2);
  EXPECT_EQ(batch.trained_tokens, 8);
}

TEST_F(ParitySamplerTest, AnAppendedEndOfTextTakesThatPlace) {
  const Dataset dataset = made_of({{0, 1, 7}, {100, 101, 102, 103, 7}});
  Sampler sampler(dataset, parity());
  Batch batch;
  sampler.next(2, batch);
  check(batch);
  EXPECT_THAT(batch.tokens, ElementsAre(0, 1, 7, 7, 100, 101, 102, 103));
  EXPECT_THAT(batch.targets, ElementsAre(1, 7, -1, -1, 101, 102, 103, -1));
}

TEST_F(SamplerTest, RefusesWhatCannotWork) {
  const Dataset dataset = made_of(numbered({3}));
  EXPECT_EQ(
      error_of([&] { Sampler s(dataset, options(0)); }, ErrorKind::kConfig),
      "a sequence of 0 positions: must be at least 1");
  SamplerOptions packed = options(4);
  packed.keep_padding = true;
  EXPECT_EQ(error_of([&] { Sampler s(dataset, packed); }, ErrorKind::kConfig),
            "padding can be kept only with one document a row, not packed "
            "ones");
  const Dataset empty = made_of(numbered({1, 0}));
  EXPECT_THAT(error_of([&] { Sampler s(empty, options(4)); }),
              HasSubstr("none of its 2 documents has two tokens"));
  Sampler sampler(dataset, options(4));
  for (const SamplerState& bad :
       {SamplerState{-1, 0, 0}, SamplerState{0, 2, 0}, SamplerState{0, 0, 3},
        SamplerState{0, 1, 1}, SamplerState{0, 0, -1}}) {
    EXPECT_THAT(error_of([&] { sampler.restore(bad); }),
                HasSubstr("train on the data the run began with"));
  }
}

}  // namespace
}  // namespace catena::data
