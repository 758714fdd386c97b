#include "layers/parameter.h"

#include <algorithm>
#include <array>
#include <utility>

#include "runtime/base/hash.h"
#include "runtime/base/random.h"

namespace catena {
namespace {

// Values pass through this many at a time: nothing is allocated in a step.
constexpr std::size_t kPart = 1024;

// 64 bytes in the narrowest type.
std::int64_t aligned(std::int64_t elements) {
  constexpr std::int64_t kElements = 32;
  return (elements + kElements - 1) / kElements * kElements;
}

template <class T>
void read_as(Backend& backend, TensorView view, std::span<double> values) {
  std::array<T, kPart> part;
  const T* from = static_cast<const T*>(view.data());
  for (std::size_t begin = 0; begin < values.size(); begin += kPart) {
    const std::size_t count = std::min(kPart, values.size() - begin);
    backend.copy_to_host(part.data(), from + begin, count * sizeof(T));
    for (std::size_t i = 0; i < count; ++i) {
      if constexpr (std::is_same_v<T, BFloat16>) {
        values[begin + i] = static_cast<float>(part[i]);
      } else {
        values[begin + i] = static_cast<double>(part[i]);
      }
    }
  }
}

template <class T>
void write_as(Backend& backend, TensorView view,
              std::span<const double> values) {
  std::array<T, kPart> part;
  T* const to = static_cast<T*>(view.data());
  for (std::size_t begin = 0; begin < values.size(); begin += kPart) {
    const std::size_t count = std::min(kPart, values.size() - begin);
    for (std::size_t i = 0; i < count; ++i) {
      if constexpr (std::is_same_v<T, BFloat16>) {
        part[i] = BFloat16(static_cast<float>(values[begin + i]));
      } else {
        part[i] = static_cast<T>(values[begin + i]);
      }
    }
    backend.copy_from_host(to + begin, part.data(), count * sizeof(T));
  }
}

std::vector<double> draw(const ParameterSpec& spec, const NamedPart& part,
                         std::uint64_t seed) {
  const Random random(seed, hash64(part.name));
  std::vector<double> values(static_cast<std::size_t>(part.shape.elements()));
  for (std::size_t i = 0; i < values.size(); ++i) {
    switch (spec.initializer) {
      case Initializer::kOnes:
        values[i] = 1;
        break;
      case Initializer::kZeros:
        values[i] = 0;
        break;
      case Initializer::kNormal:
        values[i] = spec.range * random.normal(i);
        break;
      case Initializer::kUniform:
        values[i] = spec.range * (2 * random.uniform(i) - 1);
        break;
    }
  }
  return values;
}

}  // namespace

void read_values(Backend& backend, TensorView view, std::span<double> values) {
  CATENA_CHECK(view.contiguous() &&
                   view.elements() == static_cast<std::int64_t>(values.size()),
               "[read_values] {} values of {}", values.size(),
               view.shape().text());
  switch (view.dtype()) {
    case DType::kFloat32:
      return read_as<float>(backend, view, values);
    case DType::kBFloat16:
      return read_as<BFloat16>(backend, view, values);
    case DType::kFloat64:
      return read_as<double>(backend, view, values);
    case DType::kInt32:
      return read_as<std::int32_t>(backend, view, values);
    case DType::kInt64:
      return read_as<std::int64_t>(backend, view, values);
  }
}

std::vector<double> read_values(Backend& backend, TensorView view) {
  std::vector<double> values(static_cast<std::size_t>(view.elements()));
  read_values(backend, view, values);
  return values;
}

double read_value(Backend& backend, TensorView view) {
  double value = 0;
  read_values(backend, view, {&value, 1});
  return value;
}

void write_values(Backend& backend, TensorView view,
                  const std::vector<double>& values) {
  CATENA_CHECK(view.contiguous() &&
                   view.elements() == static_cast<std::int64_t>(values.size()),
               "[write_values] {} values into {}", values.size(),
               view.shape().text());
  switch (view.dtype()) {
    case DType::kFloat32:
      return write_as<float>(backend, view, values);
    case DType::kBFloat16:
      return write_as<BFloat16>(backend, view, values);
    case DType::kFloat64:
      return write_as<double>(backend, view, values);
    case DType::kInt32:
      return write_as<std::int32_t>(backend, view, values);
    case DType::kInt64:
      return write_as<std::int64_t>(backend, view, values);
  }
}

TensorView part_of(TensorView whole, const NamedPart& part) {
  return whole.reshape({whole.elements()})
      .slice(0, part.begin, part.shape.elements())
      .reshape(part.shape);
}

Parameter::Parameter(ParameterSpec spec) : spec_(std::move(spec)) {
  CATENA_CHECK(!spec_.parts.empty(), "[parameter] without a name");
}

Parameter& ParameterSet::add(ParameterSpec spec) {
  parameters_.push_back(std::make_unique<Parameter>(std::move(spec)));
  if (!in_group_) place_group(parameters_.size() - 1);
  return *parameters_.back();
}

void ParameterSet::add_group(const std::function<void()>& add_all) {
  const std::size_t first = parameters_.size();
  in_group_ = true;
  add_all();
  in_group_ = false;
  place_group(first);
}

void ParameterSet::place_group(std::size_t first) {
  std::vector<std::size_t> shared;
  for (const bool matrix : {true, false}) {
    for (std::size_t i = first; i < parameters_.size(); ++i) {
      const ParameterSpec& spec = parameters_[i]->spec();
      if (spec.matrix == matrix && spec.sections.empty()) shared.push_back(i);
    }
  }
  if (!shared.empty()) make_block(shared);
  for (std::size_t i = first; i < parameters_.size(); ++i) {
    if (!parameters_[i]->spec().sections.empty()) make_block({i});
  }
  ++groups_;
}

void ParameterSet::make_block(const std::vector<std::size_t>& members) {
  ParameterBlock block;
  block.group = groups_;
  std::int64_t elements = 0, matrices = 0;
  for (const std::size_t i : members) {
    block.members.push_back({i, elements});
    const ParameterSpec& spec = parameters_[i]->spec();
    elements = aligned(elements + spec.shape.elements());
    if (spec.matrix) matrices = elements;
  }
  block.master = Tensor(*backend_, precision_.wide(), {elements});
  block.gradient = Tensor(*backend_, precision_.wide(), {elements});
  if (matrices > 0 && precision_.compute != precision_.wide()) {
    block.copy = Tensor(*backend_, precision_.compute, {matrices});
  }
  for (const auto& [i, begin] : block.members) {
    Parameter& parameter = *parameters_[i];
    const Shape& shape = parameter.spec().shape;
    const auto place = [&, at = begin](const Tensor& whole) {
      return whole.view().slice(0, at, shape.elements()).reshape(shape);
    };
    parameter.master_ = place(block.master);
    parameter.gradient_ = place(block.gradient);
    if (block.copy.defined() && parameter.spec().matrix) {
      parameter.copy_ = place(block.copy);
    }
  }
  blocks_.push_back(std::move(block));
}

std::int64_t ParameterSet::elements() const {
  std::int64_t sum = 0;
  for (const auto& parameter : parameters_) sum += parameter->elements();
  return sum;
}

ParameterSet::Location ParameterSet::find(std::string_view name) const {
  for (const auto& parameter : parameters_) {
    for (const NamedPart& part : parameter->spec().parts) {
      if (part.name == name) return {parameter.get(), &part};
    }
  }
  fail(ErrorKind::kInvalidArgument, "[parameter] no parameter named {}", name);
}

void ParameterSet::initialize(std::uint64_t seed) {
  for (const auto& parameter : parameters_) {
    for (const NamedPart& part : parameter->spec().parts) {
      write_values(*backend_, part_of(parameter->master(), part),
                   draw(parameter->spec(), part, seed));
    }
  }
  refresh_copies();
}

void ParameterSet::refresh_copies() {
  for (const ParameterBlock& block : blocks_) {
    if (!block.copy.defined()) continue;
    const TensorView copy = block.copy.view();
    backend_->kernels()(Copy{
        .from = block.master.view().slice(0, 0, copy.elements()), .to = copy});
  }
}

void ParameterSet::clear_gradients() {
  for (const ParameterBlock& block : blocks_) {
    const TensorView gradient = block.gradient.view();
    backend_->clear(gradient.data(),
                    static_cast<std::size_t>(gradient.bytes()));
  }
}

}  // namespace catena
