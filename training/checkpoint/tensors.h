#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "layers/model.h"
#include "runtime/safetensors.h"
#include "training/optimizer.h"

namespace catena {

/// A tensor of the training state under the name that files give it: global,
/// one per expert and projection, so that any layout can read what any other
/// wrote. Contiguous.
struct StoredTensor {
  std::string name;
  TensorView view;
};

/// Every parameter's master under its Hugging Face name, and correction
/// biases as ...gate.T.e_score_correction_bias.
[[nodiscard]] std::vector<StoredTensor> model_tensors(Model& model);

/// AdamW's moments: NAME.exp_avg and NAME.exp_avg_sq of every parameter.
[[nodiscard]] std::vector<StoredTensor> optimizer_tensors(
    ParameterSet& parameters, const Optimizer& optimizer);

/// Fills the tensors from a file; any float type is converted. Every tensor
/// must be there with its shape, and every tensor of the file must be wanted
/// or be named in `ignored`.
/// Throws: Error(kData) naming file and tensor.
void load_tensors(Backend& backend, const std::vector<StoredTensor>& tensors,
                  const std::filesystem::path& path,
                  const std::vector<std::string>& ignored = {});

/// load_tensors() of a model, rounded copies included.
void load_weights(Model& model, const std::filesystem::path& path);

/// Host copy of tensors, in memory that is kept from one capture to the next.
/// Thread rule: capture() on the training thread; arrays() may be read by
/// another one until the next capture.
class Snapshot {
 public:
  Snapshot(Backend& backend, std::vector<StoredTensor> tensors);

  void capture();
  [[nodiscard]] const std::vector<NamedArray>& arrays() const {
    return arrays_;
  }
  [[nodiscard]] std::int64_t bytes() const { return bytes_; }

 private:
  Backend* backend_;
  std::vector<StoredTensor> tensors_;
  std::int64_t bytes_ = 0;
  std::unique_ptr<std::byte[]> memory_;
  std::vector<NamedArray> arrays_;
};

}  // namespace catena
