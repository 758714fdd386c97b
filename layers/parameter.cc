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

Parameter::Parameter(Backend& backend, Precision precision, ParameterSpec spec)
    : spec_(std::move(spec)),
      master_(backend, precision.wide(), spec_.shape),
      gradient_(backend, precision.wide(), spec_.shape) {
  CATENA_CHECK(!spec_.parts.empty(), "[parameter] without a name");
  if (spec_.matrix && precision.compute != precision.wide()) {
    copy_ = Tensor(backend, precision.compute, spec_.shape);
  }
}

Parameter& ParameterSet::add(ParameterSpec spec) {
  parameters_.push_back(
      std::make_unique<Parameter>(*backend_, precision_, std::move(spec)));
  return *parameters_.back();
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
  for (const auto& parameter : parameters_) {
    if (!parameter->copy().defined()) continue;
    const Shape flat{parameter->elements()};
    backend_->kernels()(Copy{.from = parameter->master().reshape(flat),
                             .to = parameter->copy().reshape(flat)});
  }
}

void ParameterSet::clear_gradients() {
  for (const auto& parameter : parameters_) {
    backend_->clear(parameter->gradient().data(),
                    static_cast<std::size_t>(parameter->gradient().bytes()));
  }
}

}  // namespace catena
