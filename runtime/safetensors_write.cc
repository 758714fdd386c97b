#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <tuple>

#include "runtime/base/error.h"
#include "runtime/safetensors.h"

namespace catena {
namespace {

constexpr std::string_view kMetadata = "__metadata__";

std::string_view element_name(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return "F32";
    case DType::kBFloat16:
      return "BF16";
    case DType::kFloat64:
      return "F64";
    case DType::kInt32:
      return "I32";
    case DType::kInt64:
      return "I64";
  }
  return "?";
}

void check_array(const NamedArray& array) {
  CATENA_CHECK(array.name != kMetadata, "[safetensors] a tensor named {}",
               array.name);
  std::int64_t bytes = size_bytes(array.dtype);
  for (const std::int64_t size : array.shape) {
    CATENA_CHECK(size >= 0 && !__builtin_mul_overflow(bytes, size, &bytes),
                 "[safetensors] {}: length {}", array.name, size);
  }
  CATENA_CHECK(static_cast<std::uint64_t>(bytes) == array.data.size(),
               "[safetensors] {}: {} bytes of data, the shape needs {}",
               array.name, array.data.size(), bytes);
}

std::vector<const NamedArray*> file_order(std::span<const NamedArray> arrays) {
  std::vector<const NamedArray*> order;
  for (const NamedArray& array : arrays) {
    check_array(array);
    order.push_back(&array);
  }
  std::sort(
      order.begin(), order.end(), [](const NamedArray* a, const NamedArray* b) {
        return std::tuple(-size_bytes(a->dtype), std::string_view(a->name)) <
               std::tuple(-size_bytes(b->dtype), std::string_view(b->name));
      });
  return order;
}

std::string header_text(const std::vector<const NamedArray*>& order,
                        const std::map<std::string, std::string>& metadata) {
  nlohmann::ordered_json header;
  header[std::string(kMetadata)] = metadata;
  std::uint64_t begin = 0;
  std::set<std::string_view> names;
  for (const NamedArray* array : order) {
    CATENA_CHECK(names.insert(array->name).second,
                 "[safetensors] two tensors named {}", array->name);
    const std::uint64_t end = begin + array->data.size();
    nlohmann::ordered_json& entry = header[array->name];
    entry["dtype"] = element_name(array->dtype);
    entry["shape"] = array->shape;
    entry["data_offsets"] = {begin, end};
    begin = end;
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const nlohmann::json::type_error& error) {
    fail(ErrorKind::kInvalidArgument, "[safetensors] name or metadata: {}",
         error.what());
  }
  text.resize((text.size() + 7) / 8 * 8, ' ');
  return text;
}

}  // namespace

WrittenFile write_safetensors(const std::filesystem::path& path,
                              std::span<const NamedArray> arrays,
                              std::map<std::string, std::string> metadata) {
  metadata.emplace("format", "pt");
  const std::vector<const NamedArray*> order = file_order(arrays);
  const std::string header = header_text(order, metadata);
  std::string length;
  for (std::size_t i = 0; i < 8; ++i) {
    length.push_back(static_cast<char>(header.size() >> (8 * i) & 0xff));
  }
  AtomicFile file(path);
  file.write(length);
  file.write(header);
  for (const NamedArray* array : order) file.write(array->data);
  file.commit();
  return file.written();
}

}  // namespace catena
