#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "layers/model.h"

namespace catena {

/// Writes every parameter, one tensor an expert and projection, under its
/// Hugging Face name, in the master's type, and correction biases as
/// ...gate.T.e_score_correction_bias. Atomic: a failed write leaves the old
/// file whole.
void save_weights(Model& model, const std::filesystem::path& path,
                  const std::map<std::string, std::string>& metadata);

/// Reads them back; any float type is converted. Every tensor of the model
/// must be there with its shape, and every tensor of the file must be wanted.
/// Throws: Error(kData) naming the tensor.
void load_weights(Model& model, const std::filesystem::path& path);

}  // namespace catena
