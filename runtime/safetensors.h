#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/files.h"
#include "runtime/dtype.h"

namespace catena {

/// The tensors of a file in the safetensors format: eight bytes of header
/// length N, little-endian; N bytes of JSON, {"NAME": {"dtype": "F32",
/// "shape": [2, 3], "data_offsets": [begin, end]}, ..., "__metadata__":
/// {"KEY": "VALUE"}}; then the data, which the offsets cover without holes or
/// overlap.
/// Thread rule: const after construction, any number of readers. Movable.
/// Source: https://github.com/huggingface/safetensors, README, "Format".
class Safetensors {
 public:
  /// Maps the file; nothing of the data is read before it is looked at.
  /// Throws: Error(kData) "FILE: ..." naming the tensor that is wrong; Io.
  [[nodiscard]] static Safetensors open(const std::filesystem::path& path);
  /// The same for borrowed bytes, which must outlive the object; `name` takes
  /// the place of FILE.
  [[nodiscard]] static Safetensors from_bytes(std::span<const std::byte> bytes,
                                              std::string name);

  struct Entry {
    DType dtype;
    std::vector<std::int64_t> shape;
    /// Row-major, little-endian, of any alignment; valid as long as the
    /// Safetensors (and, after from_bytes(), the bytes).
    std::span<const std::byte> data;
  };

  /// In the order of their data.
  [[nodiscard]] const std::vector<std::string>& names() const { return names_; }
  [[nodiscard]] bool contains(std::string_view name) const {
    return tensors_.find(name) != tensors_.end();
  }
  /// Throws: Error(kData) with the nearest known name if there is no such
  /// tensor, Error(kUnsupported) if its element type is none of DType's.
  [[nodiscard]] Entry find(std::string_view name) const;
  [[nodiscard]] const std::map<std::string, std::string>& metadata() const {
    return metadata_;
  }

 private:
  struct Tensor {
    std::string dtype;
    std::vector<std::int64_t> shape;
    std::uint64_t begin = 0, end = 0;  ///< within data_
  };
  struct Reader;

  std::string file_name_;
  MappedFile file_;
  std::span<const std::byte> data_;
  std::vector<std::string> names_;
  std::map<std::string, Tensor, std::less<>> tensors_;
  std::map<std::string, std::string> metadata_;
};

/// A tensor to be written; borrows its data, row-major.
struct NamedArray {
  std::string name;
  DType dtype;
  std::vector<std::int64_t> shape;
  std::span<const std::byte> data;
};

/// Writes all arrays to `path`, atomically and without a second copy in
/// memory. Order: larger element types first, then by name; the data begins at
/// a multiple of eight bytes. Metadata gets {"format": "pt"}, which readers of
/// the format look for, unless it is given.
/// Throws: InvalidArgument if names repeat or sizes do not fit; Error(kIo).
WrittenFile write_safetensors(const std::filesystem::path& path,
                              std::span<const NamedArray> arrays,
                              std::map<std::string, std::string> metadata = {});

}  // namespace catena
