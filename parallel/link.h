#pragma once

#include <cstdint>

namespace catena {

/// A way between two ranks. A rank sends its messages one after another, and
/// receives others' so at the same time: each takes
///   message_seconds + bytes / bytes_per_second
/// and is there latency_seconds later.
struct Link {
  double bytes_per_second = 0, message_seconds = 0, latency_seconds = 0;
  /// The rank's own core copies: messages move while it waits, and keep it.
  bool takes_core = false;

  /// Of one message, without its latency.
  [[nodiscard]] double seconds(std::int64_t bytes) const {
    return message_seconds + static_cast<double>(bytes) / bytes_per_second;
  }
};

}  // namespace catena
