#include "training/checkpoint/tensors.h"

#include <fmt/ranges.h>

#include <cstring>
#include <set>

#include "runtime/base/error.h"

namespace catena {
namespace {

std::vector<std::int64_t> sizes(const Shape& shape) {
  return {shape.sizes.begin(), shape.sizes.begin() + shape.dimensions};
}

std::vector<double> converted(const Safetensors::Entry& entry,
                              const std::string& where) {
  std::vector<double> values;
  const auto read = [&](auto element) {
    using T = decltype(element);
    const std::size_t count = entry.data.size() / sizeof(T);
    values.resize(count);
    for (std::size_t i = 0; i < count; ++i) {
      T value;
      std::memcpy(&value, entry.data.data() + i * sizeof(T), sizeof(T));
      if constexpr (std::is_same_v<T, BFloat16>) {
        values[i] = static_cast<float>(value);
      } else {
        values[i] = static_cast<double>(value);
      }
    }
  };
  if (entry.dtype == DType::kFloat32) {
    read(float{});
  } else if (entry.dtype == DType::kFloat64) {
    read(double{});
  } else if (entry.dtype == DType::kBFloat16) {
    read(BFloat16{});
  } else {
    fail(ErrorKind::kData, "{}: a tensor of a floating type was expected",
         where);
  }
  return values;
}

}  // namespace

std::vector<StoredTensor> model_tensors(Model& model) {
  std::vector<StoredTensor> result;
  ParameterSet& set = model.parameters();
  for (std::size_t i = 0; i < set.size(); ++i) {
    for (const NamedPart& part : set[i].spec().parts) {
      result.push_back({part.name, part_of(set[i].master(), part)});
    }
  }
  for (Chain* chain : model.chains()) {
    for (std::int64_t t = 0; t < chain->routers(); ++t) {
      const Router& router = chain->router(t);
      if (!router.bias().defined()) continue;
      result.push_back(
          {router.name() + ".e_score_correction_bias", router.bias()});
    }
  }
  return result;
}

std::vector<StoredTensor> optimizer_tensors(ParameterSet& parameters,
                                            const Optimizer& optimizer) {
  std::vector<StoredTensor> result;
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const Shape& shape = parameters[i].spec().shape;
    for (const NamedPart& part : parameters[i].spec().parts) {
      result.push_back({part.name + ".exp_avg",
                        part_of(optimizer.first(i).reshape(shape), part)});
      result.push_back({part.name + ".exp_avg_sq",
                        part_of(optimizer.second(i).reshape(shape), part)});
    }
  }
  return result;
}

void load_tensors(Backend& backend, const std::vector<StoredTensor>& tensors,
                  const std::filesystem::path& path,
                  const std::vector<std::string>& ignored) {
  const Safetensors file = Safetensors::open(path);
  std::set<std::string> unread;
  for (const std::string& name : file.names()) unread.insert(name);
  for (const StoredTensor& tensor : tensors) {
    const auto entry = file.find(tensor.name);
    const std::string where =
        fmt::format("{}: tensor {}", path.string(), tensor.name);
    if (entry.shape != sizes(tensor.view.shape())) {
      fail(ErrorKind::kData, "{}: has shape [{}], the model's is {}", where,
           fmt::join(entry.shape, ", "), tensor.view.shape().text());
    }
    if (entry.dtype == tensor.view.dtype()) {
      backend.copy_from_host(tensor.view.data(), entry.data.data(),
                             entry.data.size());
    } else {
      write_values(backend, tensor.view, converted(entry, where));
    }
    unread.erase(tensor.name);
  }
  for (const std::string& name : ignored) unread.erase(name);
  if (!unread.empty()) {
    fail(ErrorKind::kData,
         "{}: {} tensors are not of this model, such as {}; is it another "
         "model's file?",
         path.string(), unread.size(), *unread.begin());
  }
}

void load_weights(Model& model, const std::filesystem::path& path) {
  std::vector<std::string> ignored;
  if (model.config().tied_head) ignored.emplace_back("lm_head.weight");
  load_tensors(model.backend(), model_tensors(model), path, ignored);
  model.parameters().refresh_copies();
}

Snapshot::Snapshot(Backend& backend, std::vector<StoredTensor> tensors)
    : backend_(&backend), tensors_(std::move(tensors)) {
  for (const StoredTensor& tensor : tensors_) bytes_ += tensor.view.bytes();
  // Cleared, so that the first capture does not wait for pages either.
  memory_ = std::make_unique<std::byte[]>(static_cast<std::size_t>(bytes_));
  std::size_t begin = 0;
  for (const StoredTensor& tensor : tensors_) {
    const auto count = static_cast<std::size_t>(tensor.view.bytes());
    arrays_.push_back({tensor.name,
                       tensor.view.dtype(),
                       sizes(tensor.view.shape()),
                       {memory_.get() + begin, count}});
    begin += count;
  }
}

void Snapshot::capture() {
  std::byte* to = memory_.get();
  for (const StoredTensor& tensor : tensors_) {
    const auto count = static_cast<std::size_t>(tensor.view.bytes());
    backend_->copy_to_host(to, tensor.view.data(), count);
    to += count;
  }
}

}  // namespace catena
