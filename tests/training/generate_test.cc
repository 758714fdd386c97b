#include "training/generate.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "parallel/local/transport.h"
#include "training/sources.h"

namespace catena {
namespace {

TEST(GenerateTest, TemperatureZeroTakesTheLargestAndTheLowestOfATie) {
  EXPECT_EQ(choose_token({0, 3, 1, 3}, 4, {}, 0), 1);
}

TEST(GenerateTest, RowsBeyondTheTokenizerAreNeverChosen) {
  EXPECT_EQ(choose_token({0, 3, 1, 9}, 3, {}, 0), 1);
  const GenerateOptions hot{.temperature = 100};
  for (int position = 0; position < 200; ++position) {
    EXPECT_LT(choose_token({0, 3, 1, 9}, 3, hot, position), 3);
  }
}

TEST(GenerateTest, DrawsFollowTheSoftmax) {
  const std::vector<double> logits{std::log(1.0), std::log(2.0), std::log(5.0)};
  const GenerateOptions options{.temperature = 1, .seed = 7};
  std::map<int, int> count;
  for (int position = 0; position < 8000; ++position) {
    ++count[choose_token(logits, 3, options, position)];
  }
  EXPECT_NEAR(count[0], 1000, 150);
  EXPECT_NEAR(count[1], 2000, 200);
  EXPECT_NEAR(count[2], 5000, 250);
}

TEST(GenerateTest, TopPKeepsTheSmallestSetThatReachesIt) {
  const std::vector<double> logits{std::log(1.0), std::log(2.0), std::log(5.0)};
  const auto seen = [&](double top_p) {
    std::map<int, int> count;
    for (int position = 0; position < 500; ++position) {
      ++count[choose_token(logits, 3, {.temperature = 1, .top_p = top_p},
                           position)];
    }
    return count.size();
  };
  EXPECT_EQ(seen(0), 1U);
  EXPECT_EQ(seen(0.6), 1U);
  EXPECT_EQ(seen(0.7), 2U);
  EXPECT_EQ(seen(1), 3U);
}

TEST(GenerateTest, DrawsDependOnSeedAndPositionAlone) {
  const std::vector<double> logits(50, 0.0);
  const GenerateOptions a{.temperature = 1, .seed = 1};
  const GenerateOptions b{.temperature = 1, .seed = 2};
  int different = 0;
  for (int position = 0; position < 50; ++position) {
    EXPECT_EQ(choose_token(logits, 50, a, position),
              choose_token(logits, 50, a, position));
    different += choose_token(logits, 50, a, position) !=
                 choose_token(logits, 50, b, position);
  }
  EXPECT_GT(different, 40);
}

// As ranks do whose sums are rounded differently: here each draws by a seed of
// its own, for a length of its own where it went alone.
TEST(GenerateTest, RanksSayTheSame) {
  Config config;
  config.data.tokenizer =
      std::string(CATENA_SOURCE_DIR) + "/data/quickstart/tokenizer.json";
  const data::Tokenizer tokenizer = load_tokenizer(config);
  config.model.vocabulary = tokenizer.vocabulary_size();
  config.model.hidden = 16;
  config.model.layers = 1;
  config.model.max_positions = 64;
  config.model.attention = {.heads = 2,
                            .kv_lora_rank = 8,
                            .qk_nope_size = 4,
                            .qk_rope_size = 4,
                            .v_size = 4};
  config.model.chain = {.routed_experts = 3, .top_k = 2, .intermediate = 8};
  for (const int world : {2, 3}) {
    std::vector<std::string> said(static_cast<std::size_t>(world));
    local::run_ranks(world, [&](Transport& transport) {
      const auto backend = make_cpu_backend(1);
      Ranks ranks(transport, *backend, make_mesh(world, world, 3),
                  Placement::contiguous(3, world), Communicator::Deadline(60));
      Model model(*backend, config.model, {DType::kFloat64}, &ranks);
      model.parameters().initialize(1);
      const auto rank = static_cast<std::size_t>(transport.rank());
      const GenerateOptions options{
          .max_tokens = 20, .temperature = 1, .seed = rank + 1};
      generate(model, tokenizer, "one and one", options,
               [&](std::string_view text) { said[rank] += text; });
    });
    EXPECT_NE(said[0], "");
    for (const std::string& text : said) EXPECT_EQ(text, said[0]);
  }
}

TEST(GenerateTest, QuestionStopsBeforeTheResponse) {
  EXPECT_EQ(question("query : {query} response : {response}", "Why?"),
            "query : Why? response :");
  EXPECT_EQ(question("{query}{response}", "Why?"), "Why?");
}

}  // namespace
}  // namespace catena
