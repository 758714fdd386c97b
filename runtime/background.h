#pragma once

namespace catena {

/// Work that a rank's thread does beside its kernels, a little at a time:
/// messages between ranks move on.
class Background {
 public:
  virtual ~Background() = default;
  /// Returns soon, and starts no kernel. What it throws ends the kernel that
  /// runs, and comes out of it.
  virtual void advance() = 0;
};

}  // namespace catena
