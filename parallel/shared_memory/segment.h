#pragma once

#include <pthread.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>

#include "parallel/slot_transport.h"

namespace catena::shared_memory {

/// Locked by a rank's thread for as long as it lives: the kernel opens it when
/// the thread is gone, however it went.
class LifeLock {
 public:
  /// By the owner, before others see it.
  void begin();
  void end();
  /// By others. Costs as much as a lock that is free.
  [[nodiscard]] bool owner_died();

 private:
  pthread_mutex_t mutex_;
};

/// What stands at the beginning of a segment. Channels follow: one for each
/// member of the node and lane, from this rank to that member.
struct Control {
  static constexpr std::uint64_t kMagic = 0x6d65'6d61'6e65'7461ULL;
  std::uint64_t magic = kMagic, members = 0, pool_bytes = 0;
  LifeLock life;
  std::atomic<std::uint32_t> joined = 0;  ///< has mapped all segments
  RankRecord record;
  /// Of the first member's segment: see SlotTransport.
  alignas(64) std::atomic<std::int32_t> first_failed = -1;
};

/// Memory of one rank that all ranks of the node map: a control block, and a
/// pool that gets pages as far as reserve() has asked for them.
/// Errors have ErrorKind kIo with the system's reason, or what is said.
class Segment {
 public:
  /// `name` begins with a slash, and is taken by nobody.
  /// Throws: DoesNotFit.
  [[nodiscard]] static Segment create(const std::string& name, int members,
                                      std::size_t pool_bytes);
  /// Another rank's. Throws: Communication when it is gone, or another thing.
  [[nodiscard]] static Segment open(const std::string& name, int members,
                                    std::size_t pool_bytes);
  Segment() = default;
  Segment(Segment&& from) noexcept { *this = std::move(from); }
  Segment& operator=(Segment&& from) noexcept;
  /// Ends the life of an own segment; its name goes, too, if it is still there.
  ~Segment();

  [[nodiscard]] Control& control() const {
    return *reinterpret_cast<Control*>(data_);
  }
  [[nodiscard]] Channel& channel(int to, int lane) const;
  [[nodiscard]] std::byte* data() const { return data_; }
  [[nodiscard]] std::size_t bytes() const { return bytes_; }
  [[nodiscard]] std::byte* pool() const { return data_ + control_bytes_; }

  /// Gives the pool's first `bytes` their pages, so that no access fails.
  /// Throws: DoesNotFit, saying how much there is and what to do.
  void reserve(std::size_t bytes);
  /// Nobody else can open it from now on.
  void unlink() noexcept;

 private:
  void map(int descriptor, int members, std::size_t pool_bytes);

  std::string name_;  ///< empty once it is gone, and for others' segments
  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0, control_bytes_ = 0, reserved_ = 0;
  int descriptor_ = -1;
  bool alive_ = false;  ///< holds the life lock
};

/// What /dev/shm can hold at all.
[[nodiscard]] std::size_t capacity_bytes();

}  // namespace catena::shared_memory
