#include "training/checkpoint/hugging_face.h"

#include <nlohmann/json.hpp>

#include "runtime/base/error.h"

namespace catena {
namespace {

using Json = nlohmann::json;

/// Reads fields of one JSON object, collecting assignments.
class Reader {
 public:
  Reader(const Json& json, std::string name,
         std::vector<ConfigAssignment>& result)
      : json_(json), name_(std::move(name)), result_(result) {}

  [[nodiscard]] bool has(const char* field) const {
    return json_.contains(field) && !json_[field].is_null();
  }
  void integer(const char* field, const char* key) {
    if (!has(field)) return;
    if (!json_[field].is_number_integer()) wrong(field, "an integer");
    put(key, json_[field].dump());
  }
  void number(const char* field, const char* key) {
    if (has(field)) put(key, fmt::format("{}", get_number(field)));
  }
  void flag(const char* field, const char* key) {
    if (has(field)) put(key, get_flag(field, false) ? "true" : "false");
  }
  void put(const char* key, std::string value) {
    result_.push_back({key, std::move(value)});
  }
  [[nodiscard]] double get_number(const char* field) const {
    if (!json_[field].is_number()) wrong(field, "a number");
    return json_[field].get<double>();
  }
  [[nodiscard]] bool get_flag(const char* field, bool otherwise) const {
    if (!has(field)) return otherwise;
    if (!json_[field].is_boolean()) wrong(field, "true or false");
    return json_[field].get<bool>();
  }
  [[nodiscard]] std::string get_text(const char* field,
                                     const char* otherwise) const {
    if (!has(field)) return otherwise;
    if (!json_[field].is_string()) wrong(field, "a string");
    return json_[field].get<std::string>();
  }
  [[noreturn]] void unsupported(const char* field, const char* wanted) const {
    fail(ErrorKind::kUnsupported,
         "{}: \"{}\" is {}, which Catena does not have; it must be {}", name_,
         field, json_[field].dump(), wanted);
  }

 private:
  [[noreturn]] void wrong(const char* field, const char* wanted) const {
    fail(ErrorKind::kData, "{}: \"{}\" is {}, but must be {}", name_, field,
         json_[field].dump(), wanted);
  }

  const Json& json_;
  std::string name_;
  std::vector<ConfigAssignment>& result_;
};

void read_rope(const Json& json, const std::string& name,
               std::vector<ConfigAssignment>& result) {
  if (!json.contains("rope_scaling") || json["rope_scaling"].is_null()) return;
  const Json& scaling = json["rope_scaling"];
  if (!scaling.is_object()) {
    fail(ErrorKind::kData, "{}: \"rope_scaling\" must be an object or null",
         name);
  }
  Reader r(scaling, name + ": rope_scaling", result);
  const char* field = r.has("type") ? "type" : "rope_type";
  const std::string type = r.get_text(field, "none");
  if (type == "default" || type == "none") return;
  if (type != "linear" && type != "yarn") {
    r.unsupported(field, "\"linear\" or \"yarn\"");
  }
  r.put("model.rope.scaling", '"' + type + '"');
  r.number("factor", "model.rope.factor");
  r.integer("original_max_position_embeddings",
            "model.rope.original_positions");
  r.number("beta_fast", "model.rope.beta_fast");
  r.number("beta_slow", "model.rope.beta_slow");
  r.number("mscale", "model.rope.mscale");
  r.number("mscale_all_dim", "model.rope.mscale_all_dim");
}

void read_sizes(Reader& r) {
  r.integer("hidden_size", "model.hidden");
  r.integer("num_hidden_layers", "model.layers");
  r.integer("vocab_size", "model.vocabulary");
  r.integer("max_position_embeddings", "model.max_positions");
  r.integer("first_k_dense_replace", "model.dense_layers");
  r.integer("intermediate_size", "model.dense_intermediate");
  r.number("rms_norm_eps", "model.norm_epsilon");
  r.flag("tie_word_embeddings", "model.tied_head");
  r.number("initializer_range", "model.initializer_range");
  if (r.has("moe_layer_freq") && r.get_number("moe_layer_freq") != 1) {
    r.unsupported("moe_layer_freq", "1");
  }
  if (r.get_flag("attention_bias", false)) {
    r.unsupported("attention_bias", "false");
  }
  if (r.get_text("hidden_act", "silu") != "silu") {
    r.unsupported("hidden_act", "\"silu\"");
  }
}

void read_attention(Reader& r) {
  r.put("model.attention.kind", "\"mla\"");
  r.integer("num_attention_heads", "model.attention.heads");
  r.integer("q_lora_rank", "model.attention.q_lora_rank");
  r.integer("kv_lora_rank", "model.attention.kv_lora_rank");
  r.integer("qk_nope_head_dim", "model.attention.qk_nope_size");
  r.integer("qk_rope_head_dim", "model.attention.qk_rope_size");
  r.integer("v_head_dim", "model.attention.v_size");
  r.number("rope_theta", "model.rope.theta");
}

void read_chain(Reader& r, bool coe) {
  if (coe) r.integer("inner_iter", "model.chain.iterations");
  if (!coe) r.put("model.chain.iterations", "1");
  r.integer("n_routed_experts", "model.chain.routed_experts");
  r.integer("n_shared_experts", "model.chain.shared_experts");
  if (!r.has("n_shared_experts")) r.put("model.chain.shared_experts", "0");
  r.integer("num_experts_per_tok", "model.chain.top_k");
  r.integer("moe_intermediate_size", "model.chain.intermediate");
  const bool inner = coe && r.get_flag("inner_residual", true);
  const bool outer = !coe || r.get_flag("outer_residual", false);
  r.put("model.chain.residual", inner ? (outer ? "\"both\"" : "\"inner\"")
                                      : (outer ? "\"outer\"" : "\"none\""));
  r.put("model.chain.independent_gates",
        coe && !r.get_flag("use_igate", true) ? "false" : "true");
}

void read_router(Reader& r, std::int64_t top_k) {
  const std::string score = r.get_text("scoring_func", "softmax");
  if (score != "softmax") r.unsupported("scoring_func", "\"softmax\"");
  const std::string method = r.get_text("topk_method", "greedy");
  if (method == "group_limited_greedy") {
    r.integer("n_group", "model.router.groups");
    r.integer("topk_group", "model.router.top_groups");
  } else if (method != "greedy") {
    r.unsupported("topk_method", "\"greedy\" or \"group_limited_greedy\"");
  }
  // The published router either renormalises or scales.
  const bool renormalize = top_k > 1 && r.get_flag("norm_topk_prob", false);
  r.put("model.router.renormalize", renormalize ? "true" : "false");
  if (!renormalize) r.number("routed_scaling_factor", "model.router.scale");
  r.number("aux_loss_alpha", "model.router.auxiliary_loss");
  r.put("model.router.auxiliary_scope",
        r.get_flag("seq_aux", true) ? "\"sequence\"" : "\"batch\"");
}

}  // namespace

std::vector<ConfigAssignment> read_hugging_face_config(
    std::string_view text, const std::string& name) {
  Json json;
  try {
    json = Json::parse(text);
  } catch (const Json::exception& problem) {
    fail(ErrorKind::kData, "{}: not JSON: {}", name, problem.what());
  }
  if (!json.is_object()) {
    fail(ErrorKind::kData, "{}: a JSON object was expected", name);
  }
  std::vector<ConfigAssignment> result;
  Reader r(json, name, result);
  const std::string type = r.get_text("model_type", "coe_deepseekv2");
  const bool coe = type == "coe_deepseekv2";
  if (!coe && type != "deepseek_v2") {
    r.unsupported("model_type", "\"coe_deepseekv2\" or \"deepseek_v2\"");
  }
  read_sizes(r);
  read_attention(r);
  read_rope(json, name, result);
  read_chain(r, coe);
  const std::int64_t top_k =
      r.has("num_experts_per_tok")
          ? static_cast<std::int64_t>(r.get_number("num_experts_per_tok"))
          : ModelConfig().chain.top_k;
  read_router(r, top_k);
  return result;
}

ModelConfig model_from_hugging_face(std::string_view text,
                                    const std::string& name) {
  ModelConfig model;
  config::Schema schema;
  describe(schema, model);
  for (const auto& [key, value] : read_hugging_face_config(text, name)) {
    schema.set_value(key, value, name);
  }
  schema.finish();
  check(schema, model);
  schema.finish();
  return model;
}

}  // namespace catena
