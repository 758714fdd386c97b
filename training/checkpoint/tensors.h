#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "layers/model.h"
#include "runtime/safetensors.h"
#include "training/optimizer.h"

namespace catena {

/// A run of elements of a tensor of the training state, under the name that
/// files give the tensor: global, one per expert and projection, so that any
/// layout can read what any other wrote. Contiguous.
struct StoredTensor {
  std::string name;
  TensorView view;
  Shape shape;             ///< of the whole tensor
  std::int64_t begin = 0;  ///< of the run, in elements
};

/// Every parameter's master under its Hugging Face name, and correction
/// biases as ...gate.T.e_score_correction_bias: what this rank holds, whole.
/// After a step, masters are current once Optimizer::gather_masters() was
/// called.
[[nodiscard]] std::vector<StoredTensor> model_tensors(Model& model);

/// AdamW's moments: NAME.exp_avg and NAME.exp_avg_sq of every parameter, the
/// runs that this rank owns.
[[nodiscard]] std::vector<StoredTensor> optimizer_tensors(
    ParameterSet& parameters, const Optimizer& optimizer);

/// Names of all that a checkpoint of this model holds, whoever writes it: of
/// the tensors above on a rank that holds everything.
[[nodiscard]] std::set<std::string> checkpoint_names(Model& model);

/// Fills the tensors from files that hold them between them; any float type is
/// converted. Every tensor must be there, once, with its shape; on one rank
/// every tensor of the files must be wanted or be named in `ignored`.
/// Throws: Error(kData) naming file and tensor.
void load_tensors(Backend& backend, const std::vector<StoredTensor>& tensors,
                  const std::vector<std::filesystem::path>& files, bool all,
                  const std::vector<std::string>& ignored = {});

/// load_tensors() of a model, rounded copies included. `path`: a safetensors
/// file, or a folder of model-*.safetensors.
void load_weights(Model& model, const std::filesystem::path& path);

/// The files PREFIX-*.safetensors of a folder, in order.
/// Throws: Error(kData) if there is none.
[[nodiscard]] std::vector<std::filesystem::path> tensor_files(
    const std::filesystem::path& folder, const std::string& prefix);

/// Host copy of tensors, in memory that is kept from one capture to the next.
/// Thread rule: capture() on the training thread; arrays() may be read by
/// another one until the next capture.
class Snapshot {
 public:
  /// Of whole tensors.
  Snapshot(Backend& backend, std::vector<StoredTensor> tensors);

  /// Of what this rank writes of a state that several may share: tensors of
  /// which it is the first replica. capture() is collective: masters and
  /// moments come from their owners.
  [[nodiscard]] static Snapshot of_model(Model& model, Optimizer& optimizer);
  [[nodiscard]] static Snapshot of_moments(Model& model,
                                           const Optimizer& optimizer);

  /// What the two take, without making them.
  [[nodiscard]] static std::int64_t bytes_of(Model& model,
                                             const Optimizer& optimizer);

  void capture() { fill_(memory_.get()); }
  [[nodiscard]] const std::vector<NamedArray>& arrays() const {
    return arrays_;
  }
  [[nodiscard]] std::int64_t bytes() const { return bytes_; }

 private:
  [[nodiscard]] static std::int64_t bytes_of(
      const std::vector<StoredTensor>& tensors);
  using Fill = std::function<void(std::byte* memory)>;
  /// Room for the tensors in order, one after another.
  Snapshot(const std::vector<StoredTensor>& tensors, Fill fill);

  std::int64_t bytes_ = 0;
  std::unique_ptr<std::byte[]> memory_;
  std::vector<NamedArray> arrays_;
  Fill fill_;
};

}  // namespace catena
