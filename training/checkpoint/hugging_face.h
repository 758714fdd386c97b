#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "layers/model_config.h"

namespace catena {

/// "model.hidden" and its value as TOML text.
struct ConfigAssignment {
  std::string key, value;
};

/// What a Hugging Face `config.json` of the Chain-of-Experts reference model
/// (`model_type` coe_deepseekv2), or of DeepSeek-V2, says of the model.
/// `name` stands in messages.
/// Throws: Error(kData) for malformed JSON or a field of the wrong type,
/// Error(kUnsupported) naming a field whose value Catena does not have.
[[nodiscard]] std::vector<ConfigAssignment> read_hugging_face_config(
    std::string_view text, const std::string& name);

/// The same, as a checked ModelConfig. Throws also: Error(kConfig).
[[nodiscard]] ModelConfig model_from_hugging_face(std::string_view text,
                                                  const std::string& name);

}  // namespace catena
