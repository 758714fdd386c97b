#include "training/checkpoint/tensors.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>
#include <map>

#include "runtime/base/error.h"

namespace catena {
namespace {

namespace fs = std::filesystem;

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

StoredTensor whole(std::string name, TensorView view) {
  return {std::move(name), view, view.shape(), 0};
}

/// Files that hold a set of tensors between them.
class TensorFiles {
 public:
  explicit TensorFiles(const std::vector<fs::path>& paths) {
    for (const fs::path& path : paths) {
      files_.push_back({path.string(), Safetensors::open(path)});
      for (const std::string& name : files_.back().tensors.names()) {
        if (names_.insert(name).second) continue;
        fail(ErrorKind::kData, "{}: tensor {} is in another file, too",
             path.string(), name);
      }
    }
  }

  [[nodiscard]] const std::set<std::string>& names() const { return names_; }
  /// The name of the file, and the tensor.
  [[nodiscard]] std::pair<std::string, Safetensors::Entry> find(
      const std::string& name) const {
    for (const File& file : files_) {
      if (file.tensors.contains(name)) {
        return {file.name, file.tensors.find(name)};
      }
    }
    // Says what is missing, and what is near.
    return {files_.front().name, files_.front().tensors.find(name)};
  }

 private:
  struct File {
    std::string name;
    Safetensors tensors;
  };
  std::vector<File> files_;
  std::set<std::string> names_;
};

}  // namespace

std::vector<StoredTensor> model_tensors(Model& model) {
  std::vector<StoredTensor> result;
  ParameterSet& set = model.parameters();
  for (std::size_t i = 0; i < set.size(); ++i) {
    for (const NamedPart& part : set[i].spec().parts) {
      result.push_back(whole(part.name, part_of(set[i].master(), part)));
    }
  }
  for (Chain* chain : model.chains()) {
    for (std::int64_t t = 0; t < chain->routers(); ++t) {
      const Router& router = chain->router(t);
      if (!router.bias().defined()) continue;
      result.push_back(
          whole(router.name() + ".e_score_correction_bias", router.bias()));
    }
  }
  return result;
}

std::vector<StoredTensor> optimizer_tensors(ParameterSet& parameters,
                                            const Optimizer& optimizer) {
  std::vector<StoredTensor> result;
  for (std::size_t i = 0; i < optimizer.sections(); ++i) {
    const Optimizer::Run run = optimizer.run(i);
    for (const NamedPart& part :
         parameters[optimizer.parameter(i)].spec().parts) {
      const std::int64_t begin = std::max(part.begin, run.begin);
      const std::int64_t end =
          std::min(part.begin + part.shape.elements(), run.begin + run.count);
      if (begin >= end) continue;
      for (const auto& [suffix, moment] :
           {std::pair{".exp_avg", optimizer.first(i)},
            std::pair{".exp_avg_sq", optimizer.second(i)}}) {
        result.push_back({part.name + suffix,
                          moment.slice(0, begin - run.begin, end - begin),
                          part.shape, begin - part.begin});
      }
    }
  }
  return result;
}

std::set<std::string> checkpoint_names(Model& model) {
  const auto meta = make_meta_backend();
  Model whole(*meta, model.config(), model.parameters().precision());
  const Optimizer moments(whole.parameters(), {});
  std::set<std::string> names;
  for (const StoredTensor& tensor : model_tensors(whole)) {
    names.insert(tensor.name);
  }
  for (const StoredTensor& tensor :
       optimizer_tensors(whole.parameters(), moments)) {
    names.insert(tensor.name);
  }
  return names;
}

void load_tensors(Backend& backend, const std::vector<StoredTensor>& tensors,
                  const std::vector<fs::path>& files, bool all,
                  const std::vector<std::string>& ignored) {
  const TensorFiles found(files);
  std::set<std::string> unread = found.names();
  for (const StoredTensor& tensor : tensors) {
    const auto [file, entry] = found.find(tensor.name);
    const std::string where = fmt::format("{}: tensor {}", file, tensor.name);
    if (entry.shape != sizes(tensor.shape)) {
      fail(ErrorKind::kData, "{}: has shape [{}], the model's is {}", where,
           fmt::join(entry.shape, ", "), tensor.shape.text());
    }
    const auto element = static_cast<std::size_t>(size_bytes(entry.dtype));
    Safetensors::Entry run = entry;
    run.data = entry.data.subspan(
        static_cast<std::size_t>(tensor.begin) * element,
        static_cast<std::size_t>(tensor.view.elements()) * element);
    if (entry.dtype == tensor.view.dtype()) {
      backend.copy_from_host(tensor.view.data(), run.data.data(),
                             run.data.size());
    } else {
      write_values(backend, tensor.view, converted(run, where));
    }
    unread.erase(tensor.name);
  }
  for (const std::string& name : ignored) unread.erase(name);
  if (all && !unread.empty()) {
    fail(ErrorKind::kData,
         "{}: {} tensors are not of this model, such as {}; is it another "
         "model's file?",
         files.front().string(), unread.size(), *unread.begin());
  }
}

std::vector<fs::path> tensor_files(const fs::path& folder,
                                   const std::string& prefix) {
  std::vector<fs::path> files;
  std::error_code code;
  for (const auto& entry : fs::directory_iterator(folder, code)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with(prefix + "-") && name.ends_with(".safetensors")) {
      files.push_back(entry.path());
    }
  }
  if (files.empty()) {
    fail(ErrorKind::kData, "{}: has no {}-*.safetensors", folder.string(),
         prefix);
  }
  std::sort(files.begin(), files.end());
  return files;
}

void load_weights(Model& model, const fs::path& path) {
  std::vector<std::string> ignored;
  if (model.config().tied_head) ignored.emplace_back("lm_head.weight");
  load_tensors(
      model.backend(), model_tensors(model),
      fs::is_directory(path) ? tensor_files(path, "model") : std::vector{path},
      model.ranks() == nullptr, ignored);
  model.parameters().refresh_copies();
}

namespace {

bool lies_in(const NamedPart& part, std::int64_t begin, std::int64_t count) {
  return part.begin >= begin && part.begin < begin + count;
}

/// What this rank writes: of what several hold, the first.
std::vector<StoredTensor> written_tensors(Model& model) {
  std::vector<StoredTensor> written;
  const bool leads = model.ranks() == nullptr || model.ranks()->rank() == 0;
  std::map<std::string, bool> first;  // of the tensors that are cut
  for (std::size_t i = 0; i < model.parameters().size(); ++i) {
    const ParameterSpec& spec = model.parameters()[i].spec();
    for (const Section& section : spec.sections) {
      for (const NamedPart& part : spec.parts) {
        if (lies_in(part, section.begin, section.count)) {
          first[part.name] = section.replicas->rank() == 0;
        }
      }
    }
  }
  for (StoredTensor& tensor : model_tensors(model)) {
    const auto at = first.find(tensor.name);
    if (at == first.end() ? leads : at->second) {
      written.push_back(std::move(tensor));
    }
  }
  return written;
}

/// One after another.
void copy_whole(Backend& backend, const std::vector<StoredTensor>& tensors,
                std::byte* to) {
  for (const StoredTensor& tensor : tensors) {
    const auto count = static_cast<std::size_t>(tensor.view.bytes());
    backend.copy_to_host(to, tensor.view.data(), count);
    to += count;
  }
}

/// First moments of a section's parts, then second ones: its memory is two
/// runs.
std::vector<StoredTensor> written_moments(ParameterSet& set,
                                          const Optimizer& optimizer) {
  std::vector<StoredTensor> written;
  for (std::size_t i = 0; i < optimizer.sections(); ++i) {
    if (!optimizer.writes(i)) continue;
    const Optimizer::Run section = optimizer.section(i);
    for (const char* suffix : {".exp_avg", ".exp_avg_sq"}) {
      for (const NamedPart& part : set[optimizer.parameter(i)].spec().parts) {
        if (!lies_in(part, section.begin, section.count)) continue;
        written.push_back(
            {part.name + suffix, optimizer.first(i), part.shape, 0});
      }
    }
  }
  return written;
}

}  // namespace

Snapshot::Snapshot(const std::vector<StoredTensor>& tensors, Fill fill)
    : fill_(std::move(fill)) {
  bytes_ = bytes_of(tensors);
  // Cleared, so that the first capture does not wait for pages either.
  memory_ = std::make_unique<std::byte[]>(static_cast<std::size_t>(bytes_));
  std::size_t begin = 0;
  for (const StoredTensor& tensor : tensors) {
    const auto count = static_cast<std::size_t>(
        tensor.shape.elements() * size_bytes(tensor.view.dtype()));
    arrays_.push_back({tensor.name,
                       tensor.view.dtype(),
                       sizes(tensor.shape),
                       {memory_.get() + begin, count}});
    begin += count;
  }
}

Snapshot::Snapshot(Backend& backend, std::vector<StoredTensor> tensors)
    : Snapshot(tensors, [&backend, tensors](std::byte* to) {
        copy_whole(backend, tensors, to);
      }) {}

Snapshot Snapshot::of_model(Model& model, Optimizer& optimizer) {
  std::vector<StoredTensor> tensors = written_tensors(model);
  return {tensors, [&model, &optimizer, tensors](std::byte* to) {
            optimizer.gather_masters();
            copy_whole(model.backend(), tensors, to);
          }};
}

Snapshot Snapshot::of_moments(Model& model, const Optimizer& optimizer) {
  const std::int64_t element =
      size_bytes(model.parameters().precision().wide());
  return {written_moments(model.parameters(), optimizer),
          [element, &optimizer](std::byte* to) {
            for (std::size_t i = 0; i < optimizer.sections(); ++i) {
              if (!optimizer.writes(i)) {
                optimizer.gather_moments(i, nullptr, nullptr);
                continue;
              }
              const std::int64_t bytes = optimizer.section(i).count * element;
              optimizer.gather_moments(i, to, to + bytes);
              to += 2 * bytes;
            }
          }};
}

std::int64_t Snapshot::bytes_of(Model& model, const Optimizer& optimizer) {
  return bytes_of(written_tensors(model)) +
         bytes_of(written_moments(model.parameters(), optimizer));
}

std::int64_t Snapshot::bytes_of(const std::vector<StoredTensor>& tensors) {
  std::int64_t bytes = 0;
  for (const StoredTensor& tensor : tensors) {
    bytes += tensor.shape.elements() * size_bytes(tensor.view.dtype());
  }
  return bytes;
}

}  // namespace catena
