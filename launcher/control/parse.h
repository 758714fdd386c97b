#pragma once

#include <google/protobuf/io/coded_stream.h>

#include <limits>
#include <string_view>

namespace catena::launcher::control {

/// Reads one protobuf message out of foreign bytes, all of them and nothing
/// more, nested at most kMaxDepth deep. What it allocates is bounded by the
/// number of bytes. Returns false where they are none.
inline constexpr int kMaxDepth = 8;

template <class Message>
[[nodiscard]] bool parse(std::string_view bytes, Message& message) {
  if (bytes.size() > std::numeric_limits<int>::max()) return false;
  google::protobuf::io::CodedInputStream stream(
      reinterpret_cast<const unsigned char*>(bytes.data()),
      static_cast<int>(bytes.size()));
  stream.SetRecursionLimit(kMaxDepth);
  return message.ParseFromCodedStream(&stream) &&
         stream.ConsumedEntireMessage();
}

}  // namespace catena::launcher::control
