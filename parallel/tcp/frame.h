#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace catena::tcp {

enum class FrameKind : std::uint8_t {
  kSet = 's',      ///< key and value; answered by kDone
  kGet = 'g',      ///< key; answered by kValue, once there is one
  kDone = 'd',     ///< nothing else
  kValue = 'v',    ///< value
  kRefused = 'r',  ///< value: why, in words
};

/// What client and server of a store say to each other, once they know each
/// other (handshake.h). On the wire, little endian:
///
///   kind u8 | length of key u16 | length of value u32 | key | value
struct Frame {
  static constexpr std::size_t kHeaderBytes = 7;
  static constexpr std::size_t kMaxKeyBytes = 256;
  static constexpr std::size_t kMaxValueBytes = 64 * 1024;

  FrameKind kind = FrameKind::kDone;
  std::string key, value;

  /// Throws: InvalidArgument when key or value are too long.
  [[nodiscard]] std::string bytes() const;
};

/// Cuts a stream of foreign bytes into frames. Holds no more than one frame
/// and what one add() brought beyond it: a length that is only claimed takes
/// no memory.
class FrameReader {
 public:
  void add(std::string_view bytes) { bytes_ += bytes; }
  /// The next frame, if all of it is there. To be called until there is none.
  /// Throws: Data when these cannot be frames; then nothing more can be read.
  [[nodiscard]] std::optional<Frame> next();
  [[nodiscard]] std::size_t held() const { return bytes_.size(); }

 private:
  std::string bytes_;
};

}  // namespace catena::tcp
