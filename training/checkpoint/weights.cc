#include "training/checkpoint/weights.h"

#include <fmt/ranges.h>

#include <cstring>
#include <set>

#include "runtime/base/error.h"
#include "runtime/safetensors.h"

namespace catena {
namespace {

/// A tensor of the model that a file holds: a parameter's part or a bias.
struct Stored {
  std::string name;
  TensorView view;
};

std::vector<Stored> stored_tensors(Model& model) {
  std::vector<Stored> result;
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

void save_weights(Model& model, const std::filesystem::path& path,
                  const std::map<std::string, std::string>& metadata) {
  const std::vector<Stored> tensors = stored_tensors(model);
  std::vector<std::vector<std::byte>> host;
  std::vector<NamedArray> arrays;
  for (const Stored& tensor : tensors) {
    auto& bytes =
        host.emplace_back(static_cast<std::size_t>(tensor.view.bytes()));
    model.backend().copy_to_host(bytes.data(), tensor.view.data(),
                                 bytes.size());
    arrays.push_back(
        {tensor.name, tensor.view.dtype(), sizes(tensor.view.shape()), bytes});
  }
  write_safetensors(path, arrays, metadata);
}

void load_weights(Model& model, const std::filesystem::path& path) {
  const Safetensors file = Safetensors::open(path);
  std::set<std::string> unread;
  for (const std::string& name : file.names()) unread.insert(name);
  for (const Stored& tensor : stored_tensors(model)) {
    const auto entry = file.find(tensor.name);
    const std::string where =
        fmt::format("{}: tensor {}", path.string(), tensor.name);
    if (entry.shape != sizes(tensor.view.shape())) {
      fail(ErrorKind::kData, "{}: has shape [{}], the model's is {}", where,
           fmt::join(entry.shape, ", "), tensor.view.shape().text());
    }
    write_values(model.backend(), tensor.view, converted(entry, where));
    unread.erase(tensor.name);
  }
  if (model.config().tied_head) unread.erase("lm_head.weight");
  if (!unread.empty()) {
    fail(ErrorKind::kData,
         "{}: {} tensors are not of this model, such as {}; is it another "
         "model's file?",
         path.string(), unread.size(), *unread.begin());
  }
  model.parameters().refresh_copies();
}

}  // namespace catena
