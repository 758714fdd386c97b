#pragma once

#include <chrono>

namespace catena {

/// Time since this machine was started (CLOCK_BOOTTIME): one clock for all of
/// its processes, which goes on while the machine is suspended.
using BootTime = std::chrono::nanoseconds;
[[nodiscard]] BootTime boot_time();

struct LeaseTerms;

/// What a process holds out to others of its machine, and renews as long as it
/// lives and runs; they end when it is over.
///
///   until = begin + length
///
/// where each renewal may put a later begin. It is one number in memory that
/// both sides see, under a descriptor that the others inherit: whoever renews
/// it never waits, and whoever looks, however late, sees the last renewal.
/// Invariants: `until` never falls; a lease that is over stays over.
/// Thread rule: one thread at a time.
class Lease {
 public:
  /// Throws: Error(kIo).
  Lease(BootTime length, BootTime begin);
  ~Lease();
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;

  void renew(BootTime begin);
  /// Is closed on exec, unless whoever starts the program sees to it.
  [[nodiscard]] int descriptor() const { return descriptor_; }

 private:
  int descriptor_;
  LeaseTerms* terms_ = nullptr;
};

/// The same, as those see it to whom it is held out.
/// Thread rule: any thread.
class LeaseView {
 public:
  /// The descriptor is not needed afterwards. Throws: Error(kIo) where it is
  /// not a lease's.
  explicit LeaseView(int descriptor);
  ~LeaseView();
  LeaseView(LeaseView&& other) noexcept;
  LeaseView& operator=(LeaseView&&) = delete;

  [[nodiscard]] BootTime until() const;
  [[nodiscard]] BootTime length() const;

 private:
  const LeaseTerms* terms_;
};

}  // namespace catena
