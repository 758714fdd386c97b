#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "parallel/communicator.h"
#include "runtime/backend.h"

namespace catena {

/// Storage type of activations and of the weights they meet, and the type of
/// master weights, gradients, norms and routers.
struct Precision {
  DType compute = DType::kFloat32;
  [[nodiscard]] DType wide() const { return catena::wide(compute); }
};

/// How a parameter starts.
enum class Initializer {
  kOnes,
  kZeros,
  kNormal,   ///< N(0, range^2)
  kUniform,  ///< U(-range, range)
};

/// A part of a parameter under the name it has in a checkpoint: one expert's
/// projection, say. `begin` counts elements from the parameter's start.
struct NamedPart {
  std::string name;
  std::int64_t begin = 0;
  Shape shape;
};

/// A run of a parameter's elements that the same ranks hold.
struct Section {
  std::int64_t begin = 0, count = 0;
  Communicator* replicas = nullptr;  ///< these ranks
};

struct ParameterSpec {
  Shape shape;
  std::vector<NamedPart> parts;
  Initializer initializer = Initializer::kNormal;
  double range = 0;
  /// Products are formed in the compute type; others stay in the wide type.
  bool matrix = true;
  /// Where ranks hold different parts: all of it, in order. Empty: every rank
  /// holds all of it.
  std::vector<Section> sections = {};
};

/// One trainable tensor: master weight and gradient in the wide type, and,
/// where the compute type is another, a rounded copy for products. Weights of
/// linear maps are [out, in]. Its memory is that of a ParameterBlock.
class Parameter {
 public:
  explicit Parameter(ParameterSpec spec);

  [[nodiscard]] const ParameterSpec& spec() const { return spec_; }
  [[nodiscard]] const std::string& name() const { return spec_.parts[0].name; }
  [[nodiscard]] TensorView master() const { return master_; }
  [[nodiscard]] TensorView gradient() const { return gradient_; }
  /// What products read: the copy if there is one, else the master.
  [[nodiscard]] TensorView weight() const {
    return copy_.defined() ? copy_ : master_;
  }
  /// The rounded copy, undefined if the master serves.
  [[nodiscard]] TensorView copy() const { return copy_; }
  [[nodiscard]] std::int64_t elements() const { return spec_.shape.elements(); }

 private:
  friend class ParameterSet;
  ParameterSpec spec_;
  TensorView master_, copy_, gradient_;
};

/// Parameters side by side in memory, so that ranks exchange all of them at
/// once, without a copy: those of a group that every rank holds, matrices
/// first. Each begins at 64 bytes; what lies between them stays zero. A
/// parameter of which ranks hold different parts is a block of its own.
struct ParameterBlock {
  struct Member {
    std::size_t parameter = 0;
    std::int64_t begin = 0;  ///< elements from the block's start
  };
  std::size_t group = 0;
  std::vector<Member> members;  ///< in order of `begin`
  Tensor master, gradient;      ///< [elements] W
  /// [elements of matrices], of the compute type, where that is another.
  Tensor copy;
};

/// All parameters of a model, in a fixed order. Addresses are stable.
class ParameterSet {
 public:
  ParameterSet(Backend& backend, Precision precision)
      : backend_(&backend), precision_(precision) {}

  /// A group of its own, outside of add_group().
  Parameter& add(ParameterSpec spec);
  /// All that `add_all` adds is one group: gradients of a group are complete at
  /// the same time. They have memory when this returns.
  void add_group(const std::function<void()>& add_all);

  [[nodiscard]] std::size_t size() const { return parameters_.size(); }
  [[nodiscard]] Parameter& operator[](std::size_t i) const {
    return *parameters_[i];
  }
  [[nodiscard]] std::int64_t elements() const;
  [[nodiscard]] Backend& backend() const { return *backend_; }
  [[nodiscard]] Precision precision() const { return precision_; }
  [[nodiscard]] std::size_t groups() const { return groups_; }
  /// Of all groups, in order.
  [[nodiscard]] std::span<const ParameterBlock> blocks() const {
    return blocks_;
  }

  struct Location {
    Parameter* parameter;
    const NamedPart* part;
  };
  /// Throws: InvalidArgument if no parameter has a part of this name.
  [[nodiscard]] Location find(std::string_view name) const;

  /// Draws every part from (seed, hash of its name): the same weights for any
  /// storage layout.
  void initialize(std::uint64_t seed);
  /// Renews the rounded copies after masters were written.
  void refresh_copies();
  void clear_gradients();

 private:
  void place_group(std::size_t first);
  void make_block(const std::vector<std::size_t>& members);

  Backend* backend_;
  Precision precision_;
  std::vector<std::unique_ptr<Parameter>> parameters_;
  std::vector<ParameterBlock> blocks_;
  std::size_t groups_ = 0;
  bool in_group_ = false;
};

/// Whoever takes gradients on before a backward pass has ended.
class GradientTaker {
 public:
  virtual ~GradientTaker() = default;
  /// The gradients of this group of the set are complete. The order of these
  /// calls is the same on every rank.
  virtual void take(std::size_t group) = 0;
};

/// Host copy of one part, converted to double, and back. For checkpoints,
/// tests and reports; slow. Those that return no vector allocate nothing.
[[nodiscard]] std::vector<double> read_values(Backend& backend,
                                              TensorView view);
void read_values(Backend& backend, TensorView view, std::span<double> values);
/// Of a tensor of one element.
[[nodiscard]] double read_value(Backend& backend, TensorView view);
void write_values(Backend& backend, TensorView view,
                  const std::vector<double>& values);
/// The part of `whole` (master or gradient of part's parameter).
[[nodiscard]] TensorView part_of(TensorView whole, const NamedPart& part);

}  // namespace catena
