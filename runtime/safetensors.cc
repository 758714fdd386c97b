#include "runtime/safetensors.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "runtime/base/error.h"
#include "runtime/base/nearest.h"

namespace catena {
namespace {

using Json = nlohmann::json;

constexpr std::uint64_t kLengthBytes = 8;
constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;
constexpr std::string_view kMetadata = "__metadata__";

struct ElementType {
  std::string_view name;
  std::uint64_t bytes;
  std::optional<DType> dtype;
};
constexpr ElementType kElementTypes[] = {{"F32", 4, DType::kFloat32},
                                         {"BF16", 2, DType::kBFloat16},
                                         {"F64", 8, DType::kFloat64},
                                         {"I32", 4, DType::kInt32},
                                         {"I64", 8, DType::kInt64},
                                         {"BOOL", 1, {}},
                                         {"U8", 1, {}},
                                         {"I8", 1, {}},
                                         {"F8_E5M2", 1, {}},
                                         {"F8_E4M3", 1, {}},
                                         {"F8_E8M0", 1, {}},
                                         {"I16", 2, {}},
                                         {"U16", 2, {}},
                                         {"F16", 2, {}},
                                         {"U32", 4, {}},
                                         {"U64", 8, {}},
                                         {"C64", 8, {}}};

const ElementType* element_type(std::string_view name) {
  for (const ElementType& type : kElementTypes) {
    if (type.name == name) return &type;
  }
  return nullptr;
}

std::uint64_t little_endian(std::span<const std::byte> bytes) {
  std::uint64_t value = 0;
  for (std::size_t i = kLengthBytes; i-- > 0;) {
    value = value << 8 | static_cast<std::uint64_t>(bytes[i]);
  }
  return value;
}

}  // namespace

/// Fills a Safetensors from bytes and checks everything on the way.
struct Safetensors::Reader {
  Safetensors& target;
  std::vector<std::set<std::string>> open_objects = {};

  /// What a hostile header puts into a message is cut.
  template <class... Args>
  [[noreturn]] void refuse(fmt::format_string<Args...> format,
                           Args&&... args) const {
    constexpr std::size_t kLongest = 400;
    std::string text = fmt::format(format, std::forward<Args>(args)...);
    if (text.size() > kLongest) text = text.substr(0, kLongest) + " ...";
    fail(ErrorKind::kData, "{}: {}", target.file_name_, text);
  }

  void read(std::span<const std::byte> bytes) {
    if (bytes.size() < kLengthBytes) {
      refuse("{} bytes are too few for a safetensors file", bytes.size());
    }
    const std::uint64_t length = little_endian(bytes.first(kLengthBytes));
    if (length > kMaxHeaderBytes) {
      refuse("header of {} bytes, at most {} are allowed; not safetensors?",
             length, kMaxHeaderBytes);
    }
    if (length > bytes.size() - kLengthBytes) {
      refuse("header of {} bytes in a file of {}; was it cut short?", length,
             bytes.size());
    }
    const auto* text =
        reinterpret_cast<const char*>(bytes.data()) + kLengthBytes;
    target.data_ = bytes.subspan(kLengthBytes + length);
    read_header(parse({text, static_cast<std::size_t>(length)}));
    check_coverage();
  }

  /// Repeated keys and deep nesting are refused while parsing, since the
  /// parsed value no longer shows the former and costs for the latter.
  Json parse(std::string_view text) {
    const auto watch = [this](int depth, Json::parse_event_t event,
                              Json& parsed) {
      switch (event) {
        case Json::parse_event_t::object_start:
          open_objects.emplace_back();
          [[fallthrough]];
        case Json::parse_event_t::array_start:
          if (depth > 3) refuse("header nests too deep");
          break;
        case Json::parse_event_t::object_end:
          open_objects.pop_back();
          break;
        case Json::parse_event_t::key:
          if (!open_objects.back().insert(parsed).second) {
            refuse("header has the key {} twice", parsed.dump());
          }
          break;
        case Json::parse_event_t::array_end:
        case Json::parse_event_t::value:
          break;
      }
      return true;
    };
    if (text.empty() || text.front() != '{') {
      refuse("header does not begin with '{{'; not safetensors?");
    }
    try {
      return Json::parse(text, watch);
    } catch (const Json::parse_error& error) {
      refuse("header is not JSON at byte {}: {}", error.byte, error.what());
    } catch (const Json::out_of_range& error) {
      // A number beyond what float64 holds.
      refuse("header is not usable JSON: {}", error.what());
    }
  }

  void read_header(const Json& header) {
    for (const auto& [name, value] : header.items()) {
      if (name == kMetadata) {
        read_metadata(value);
      } else {
        target.tensors_.emplace(name, read_tensor(name, value));
      }
    }
  }

  void read_metadata(const Json& value) {
    if (!value.is_object()) refuse("{} is not an object", kMetadata);
    for (const auto& [key, text] : value.items()) {
      if (!text.is_string()) refuse("{}: {} is not text", kMetadata, key);
      target.metadata_.emplace(key, text.get<std::string>());
    }
  }

  std::vector<std::uint64_t> read_numbers(const std::string& name,
                                          const Json& value,
                                          std::string_view key) const {
    const auto found = value.find(key);
    if (found == value.end() || !found->is_array()) {
      refuse("tensor {}: no {} array", name, key);
    }
    std::vector<std::uint64_t> numbers;
    for (const Json& number : *found) {
      constexpr std::uint64_t kMax = std::numeric_limits<std::int64_t>::max();
      if (!number.is_number_unsigned() || number.get<std::uint64_t>() > kMax) {
        refuse("tensor {}: {} has {}, expected a number from 0", name, key,
               number.dump());
      }
      numbers.push_back(number.get<std::uint64_t>());
    }
    return numbers;
  }

  Tensor read_tensor(const std::string& name, const Json& value) const {
    if (!value.is_object()) refuse("tensor {}: is not an object", name);
    for (const auto& [key, unused] : value.items()) {
      if (key != "dtype" && key != "shape" && key != "data_offsets") {
        refuse("tensor {}: unknown key {}", name, key);
      }
    }
    Tensor tensor;
    const auto dtype = value.find("dtype");
    if (dtype == value.end() || !dtype->is_string()) {
      refuse("tensor {}: no dtype", name);
    }
    tensor.dtype = dtype->get<std::string>();
    std::uint64_t elements = 1;
    for (const std::uint64_t size : read_numbers(name, value, "shape")) {
      tensor.shape.push_back(static_cast<std::int64_t>(size));
      if (__builtin_mul_overflow(elements, size, &elements)) {
        refuse("tensor {}: shape {} is too large", name,
               value.at("shape").dump());
      }
    }
    const std::vector<std::uint64_t> offsets =
        read_numbers(name, value, "data_offsets");
    if (offsets.size() != 2 || offsets[0] > offsets[1] ||
        offsets[1] > target.data_.size()) {
      refuse("tensor {}: data_offsets {} in {} bytes of data", name,
             value.at("data_offsets").dump(), target.data_.size());
    }
    tensor.begin = offsets[0];
    tensor.end = offsets[1];
    check_size(name, tensor, elements);
    return tensor;
  }

  /// A type nobody knows may have any size; find() refuses it.
  void check_size(const std::string& name, const Tensor& tensor,
                  std::uint64_t elements) const {
    const ElementType* type = element_type(tensor.dtype);
    if (type == nullptr) return;
    std::uint64_t bytes = 0;
    if (__builtin_mul_overflow(elements, type->bytes, &bytes) ||
        bytes != tensor.end - tensor.begin) {
      refuse("tensor {}: {} bytes of data for {} elements of {}", name,
             tensor.end - tensor.begin, elements, tensor.dtype);
    }
  }

  void check_coverage() {
    for (const auto& [name, tensor] : target.tensors_) {
      target.names_.push_back(name);
    }
    const auto place = [this](const std::string& name) {
      const Tensor& tensor = target.tensors_.find(name)->second;
      return std::pair(tensor.begin, tensor.end);
    };
    std::stable_sort(target.names_.begin(), target.names_.end(),
                     [&](const std::string& a, const std::string& b) {
                       return place(a) < place(b);
                     });
    std::uint64_t covered = 0;
    for (const std::string& name : target.names_) {
      const auto [begin, end] = place(name);
      if (begin != covered) {
        refuse("tensor {}: data begins at byte {}, the one before ends at {}",
               name, begin, covered);
      }
      covered = end;
    }
    if (covered != target.data_.size()) {
      refuse("{} bytes of data, but the tensors end at {}", target.data_.size(),
             covered);
    }
  }
};

Safetensors Safetensors::open(const std::filesystem::path& path) {
  Safetensors result;
  result.file_name_ = path.string();
  result.file_ = MappedFile(path);
  Reader{.target = result}.read(result.file_.bytes());
  return result;
}

Safetensors Safetensors::from_bytes(std::span<const std::byte> bytes,
                                    std::string name) {
  Safetensors result;
  result.file_name_ = std::move(name);
  Reader{.target = result}.read(bytes);
  return result;
}

Safetensors::Entry Safetensors::find(std::string_view name) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) {
    const std::string nearest = nearest_name(name, names_);
    fail(ErrorKind::kData, "{}: has no tensor {}{}", file_name_, name,
         nearest.empty() ? "" : "; did you mean " + nearest + "?");
  }
  const Tensor& tensor = found->second;
  const ElementType* type = element_type(tensor.dtype);
  if (type == nullptr || !type->dtype) {
    fail(ErrorKind::kUnsupported,
         "{}: tensor {} is of type {}; supported are F32, BF16, F64, I32, I64",
         file_name_, name, tensor.dtype);
  }
  return {.dtype = *type->dtype,
          .shape = tensor.shape,
          .data = data_.subspan(tensor.begin, tensor.end - tensor.begin)};
}

}  // namespace catena
