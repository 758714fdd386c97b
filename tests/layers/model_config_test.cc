#include "layers/model_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/base/error.h"

namespace catena::testing {
namespace {

/// The message of every problem that `toml` has.
std::string problems(const std::string& toml) {
  config::Schema schema;
  ModelConfig model;
  describe(schema, model);
  schema.read_text(toml, "test.toml");
  check(schema, model);
  try {
    schema.finish();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kConfig);
    return error.what();
  }
  return "";
}

TEST(ModelConfigTest, DefaultsFitTogether) { EXPECT_EQ(problems(""), ""); }

struct Misfit {
  std::string toml, key, words;
};
class MisfitTest : public ::testing::TestWithParam<Misfit> {};

TEST_P(MisfitTest, IsNamedWithItsPlaceAndKey) {
  const std::string message = problems(GetParam().toml);
  EXPECT_THAT(message, ::testing::HasSubstr("test.toml:"));
  EXPECT_THAT(message, ::testing::HasSubstr(GetParam().key));
  EXPECT_THAT(message, ::testing::HasSubstr(GetParam().words));
}

INSTANTIATE_TEST_SUITE_P(
    Keys, MisfitTest,
    ::testing::Values(
        Misfit{"[model]\nlayers = 2\ndense_layers = 3", "model.dense_layers",
               "model.layers is 2"},
        Misfit{"[model.chain]\nrouted_experts = 3\ntop_k = 4",
               "model.chain.top_k", "at most 3"},
        Misfit{"[model.chain]\nrouted_experts = 15\n"
               "[model.router]\ngroups = 4",
               "model.router.groups", "do not divide 15"},
        Misfit{"[model.router]\ngroups = 3\ntop_groups = 4",
               "model.router.top_groups", "3 groups"},
        Misfit{"[model.chain]\nrouted_experts = 15\ntop_k = 4\n"
               "[model.router]\ngroups = 5\ntop_groups = 1",
               "model.chain.top_k", "hold only 3"},
        Misfit{"[model.chain]\nrouted_experts = 8\ntop_k = 2\n"
               "[model.router]\ngroups = 8\ntop_groups = 2\n"
               "group_score = \"top_two_sum\"",
               "model.router.group_score", "at least two experts"},
        Misfit{"[model.attention]\nkind = \"gqa\"\nheads = 4\nkv_heads = 3",
               "model.attention.kv_heads", "divide 4"},
        Misfit{"[model.attention]\nqk_rope_size = 5",
               "model.attention.qk_rope_size", "even"},
        Misfit{"[model.attention]\nkind = \"gqa\"\nhead_size = 7",
               "model.attention.head_size", "even"},
        Misfit{"[model.chain]\nresidual = \"sideways\"", "model.chain.residual",
               "inner"},
        Misfit{"[model.chain]\niterations = 0", "model.chain.iterations",
               "0"}));

}  // namespace
}  // namespace catena::testing
