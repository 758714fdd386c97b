#include "parallel/tcp/frame.h"

#include "runtime/base/error.h"

namespace catena::tcp {
namespace {

void put(std::string& bytes, std::size_t number, int count) {
  for (int i = 0; i < count; ++i) {
    bytes.push_back(static_cast<char>(number >> (8 * i) & 0xff));
  }
}

std::size_t number(std::string_view bytes) {
  std::size_t result = 0;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    result |= static_cast<std::size_t>(static_cast<unsigned char>(bytes[i]))
              << (8 * i);
  }
  return result;
}

struct Shape {
  bool has_key, has_value;
};

std::optional<Shape> shape_of(FrameKind kind) {
  switch (kind) {
    case FrameKind::kSet:
      return Shape{true, true};
    case FrameKind::kGet:
      return Shape{true, false};
    case FrameKind::kDone:
      return Shape{false, false};
    case FrameKind::kValue:
    case FrameKind::kRefused:
      return Shape{false, true};
  }
  return std::nullopt;
}

}  // namespace

std::string Frame::bytes() const {
  CATENA_CHECK(key.size() <= kMaxKeyBytes && value.size() <= kMaxValueBytes,
               "[store] key of {} and value of {} bytes; {} and {} are most",
               key.size(), value.size(), kMaxKeyBytes, kMaxValueBytes);
  std::string bytes(1, static_cast<char>(kind));
  put(bytes, key.size(), 2);
  put(bytes, value.size(), 4);
  return bytes + key + value;
}

std::optional<Frame> FrameReader::next() {
  if (bytes_.size() < Frame::kHeaderBytes) return std::nullopt;
  const std::string_view all = bytes_;
  const auto kind = static_cast<FrameKind>(all[0]);
  const std::size_t key = number(all.substr(1, 2));
  const std::size_t value = number(all.substr(3, 4));
  const std::optional<Shape> shape = shape_of(kind);
  if (!shape || key > Frame::kMaxKeyBytes || value > Frame::kMaxValueBytes ||
      (key > 0) != shape->has_key || (value > 0 && !shape->has_value)) {
    fail(ErrorKind::kData,
         "[store] no frame: kind {}, key of {} bytes, value of {}",
         static_cast<int>(kind), key, value);
  }
  const std::size_t size = Frame::kHeaderBytes + key + value;
  if (bytes_.size() < size) return std::nullopt;
  Frame frame{kind, std::string(all.substr(Frame::kHeaderBytes, key)),
              std::string(all.substr(Frame::kHeaderBytes + key, value))};
  bytes_.erase(0, size);
  return frame;
}

}  // namespace catena::tcp
