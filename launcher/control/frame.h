#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "launcher/control/secret.h"

namespace catena::launcher::control {

/// A stream of bytes is cut into frames, little endian:
///
///   length u32 | content                       content: `length` bytes
///
/// Before both ends have proved who they are, content is a greeting of at most
/// kMaxGreetingBytes. From then on it is sealed, at most kMaxSealedBytes:
///
///   sequence u64 | message | mac               mac: 32 bytes
///   mac = HMAC-SHA256(key of this direction, length | sequence | message)
///
/// `sequence` counts the frames of a direction from 0; each is taken once and
/// in order. Keys are of one connection alone. So no frame can be changed,
/// left out, repeated, reordered, sent back, or taken from another connection.
/// What is said can be read by who can read the wire, unless it goes by TLS
/// (tls.h).
inline constexpr std::size_t kLengthBytes = 4, kSequenceBytes = 8;
inline constexpr std::size_t kSealBytes = kSequenceBytes + kMacBytes;
inline constexpr std::size_t kMaxGreetingBytes = 512;
inline constexpr std::size_t kMaxMessageBytes = std::size_t{1} << 20U;
inline constexpr std::size_t kMaxSealedBytes = kMaxMessageBytes + kSealBytes;

/// content as a frame. Throws: InvalidArgument where it is longer than `most`.
[[nodiscard]] std::string frame(std::string_view content, std::size_t most);

/// Cuts foreign bytes into frames. Holds no more than one frame and what one
/// add() brought beyond it: a length that is only claimed takes no memory.
class FrameReader {
 public:
  explicit FrameReader(std::size_t most) : most_(most) {}

  void add(std::string_view bytes) { bytes_ += bytes; }
  /// The content of the next frame, if all of it is there.
  /// Throws: Data where it claims to be longer than allowed; then, nothing more
  /// can be read.
  [[nodiscard]] std::optional<std::string> next();
  /// From the next frame on.
  void allow(std::size_t most) { most_ = most; }
  [[nodiscard]] std::size_t held() const { return bytes_.size(); }

 private:
  std::size_t most_;
  std::string bytes_;
};

/// Makes the sealed frames of one direction.
class Sealer {
 public:
  explicit Sealer(Secret key) : key_(std::move(key)) {}
  /// The whole frame. Throws: InvalidArgument over kMaxMessageBytes.
  [[nodiscard]] std::string seal(std::string_view message);

 private:
  Secret key_;
  std::uint64_t sequence_ = 0;
};

/// Opens them at the other end.
class Opener {
 public:
  explicit Opener(Secret key) : key_(std::move(key)) {}
  /// The message in a frame's content, of which it is a part.
  /// Throws: Data where it is not the next frame, whole, of this connection;
  /// then the connection is of no more use.
  [[nodiscard]] std::string_view open(std::string_view content);

 private:
  Secret key_;
  std::uint64_t sequence_ = 0;
};

}  // namespace catena::launcher::control
