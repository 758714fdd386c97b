#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace catena::data {

/// Token ids and what they stand for. Ids need not be dense.
class Vocabulary {
 public:
  /// Largest id there may be, plus one.
  static constexpr std::int64_t kLimit = std::int64_t{1} << 22;

  /// `spelling` in the byte alphabet, or any other text, which then stands
  /// for itself.
  /// Throws: Error(kData), without a file name, if the id is out of range or
  /// taken by another token, or the spelling has another id.
  void add(std::string_view spelling, std::int64_t id);
  /// As add(), for a token that stands for `content` whatever it looks like.
  void add_literal(std::string_view content, std::int64_t id);

  /// Largest id + 1.
  [[nodiscard]] std::int32_t size() const {
    return static_cast<std::int32_t>(bytes_.size());
  }
  [[nodiscard]] std::optional<std::int32_t> find(
      std::string_view spelling) const;
  /// Bytes of a token; empty if nothing has this id. 0 <= id < size().
  [[nodiscard]] const std::string& bytes(std::int32_t id) const {
    return bytes_[static_cast<std::size_t>(id)];
  }

 private:
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const {
      return std::hash<std::string_view>{}(text);
    }
  };
  void put(std::string_view name, std::string bytes, std::int64_t id);

  std::vector<std::string> bytes_;
  std::vector<bool> taken_;
  std::unordered_map<std::string, std::int32_t, Hash, std::equal_to<>> ids_;
};

}  // namespace catena::data
