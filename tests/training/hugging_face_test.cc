#include "training/checkpoint/hugging_face.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/base/error.h"

namespace catena {
namespace {

using testing::HasSubstr;

std::string message_of(const std::string& json) {
  try {
    (void)model_from_hugging_face(json, "config.json");
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(HuggingFaceTest, ReadsTheReferenceFields) {
  const ModelConfig m = model_from_hugging_face(R"({
    "model_type": "coe_deepseekv2", "hidden_size": 64, "num_hidden_layers": 3,
    "vocab_size": 100, "num_attention_heads": 2, "q_lora_rank": 24,
    "inner_iter": 3, "n_routed_experts": 9, "n_shared_experts": 2,
    "num_experts_per_tok": 4, "use_igate": false, "outer_residual": true,
    "seq_aux": false, "aux_loss_alpha": 0.25, "routed_scaling_factor": 2.5,
    "rope_scaling": {"type": "yarn", "factor": 40, "mscale_all_dim": 0.707}
  })",
                                                "config.json");
  EXPECT_EQ(m.hidden, 64);
  EXPECT_EQ(m.attention.q_lora_rank, 24);
  EXPECT_EQ(m.chain.iterations, 3);
  EXPECT_EQ(m.chain.shared_experts, 2);
  EXPECT_EQ(m.chain.residual, "both");
  EXPECT_FALSE(m.chain.independent_gates);
  EXPECT_EQ(m.router.auxiliary_scope, "batch");
  EXPECT_EQ(m.router.scale, 2.5);
  EXPECT_EQ(m.rope.scaling, "yarn");
  EXPECT_EQ(m.rope.factor, 40);
}

TEST(HuggingFaceTest, RenormalisingExcludesScaling) {
  const ModelConfig m = model_from_hugging_face(
      R"({"num_experts_per_tok": 2, "norm_topk_prob": true,
          "routed_scaling_factor": 2.5})",
      "config.json");
  EXPECT_TRUE(m.router.renormalize);
  EXPECT_EQ(m.router.scale, 1);
}

TEST(HuggingFaceTest, DeepSeekV2IsOneIterationWithTheOuterResidual) {
  const ModelConfig m = model_from_hugging_face(
      R"({"model_type": "deepseek_v2", "n_shared_experts": null})",
      "config.json");
  EXPECT_EQ(m.chain.iterations, 1);
  EXPECT_EQ(m.chain.residual, "outer");
  EXPECT_EQ(m.chain.shared_experts, 0);
}

TEST(HuggingFaceTest, SaysWhatIsWrong) {
  EXPECT_THAT(message_of("{"), HasSubstr("config.json: not JSON"));
  EXPECT_THAT(message_of("[]"), HasSubstr("a JSON object was expected"));
  EXPECT_THAT(message_of(R"({"hidden_size": "big"})"),
              HasSubstr("\"hidden_size\" is \"big\", but must be an integer"));
  EXPECT_THAT(message_of(R"({"hidden_act": "gelu"})"),
              HasSubstr("\"hidden_act\" is \"gelu\", which Catena does not "
                        "have; it must be \"silu\""));
  EXPECT_THAT(message_of(R"({"model_type": "llama"})"),
              HasSubstr("\"coe_deepseekv2\" or \"deepseek_v2\""));
  EXPECT_THAT(
      message_of(R"({"rope_scaling": {"type": "dynamic", "factor": 2}})"),
      HasSubstr("rope_scaling: \"type\" is \"dynamic\""));
  EXPECT_THAT(
      message_of(R"({"n_routed_experts": 4, "num_experts_per_tok": 5})"),
      HasSubstr("chooses 5 experts of 4"));
}

}  // namespace
}  // namespace catena
