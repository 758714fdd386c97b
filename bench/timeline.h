#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "parallel/transport.h"
#include "runtime/backend.h"

namespace catena::bench {

/// What one rank did, when: its kernels, when it only waited, and how long its
/// exchanges were under way. A rank is watched from outside, by a backend and a
/// transport around its own: one that is not watched pays nothing.
/// Thread rule: one thread, the rank's.
class Timeline {
 public:
  using Clock = std::chrono::steady_clock;

  /// The same backend, or transport, watched. Borrows both, and this.
  [[nodiscard]] std::unique_ptr<Backend> watch(Backend& inner);
  [[nodiscard]] std::unique_ptr<Transport> watch(Transport& inner);

  /// From now on all is written down; what was before is forgotten.
  void start();
  void stop() { recording_ = false; }

  /// As Chrome's trace events (chrome://tracing, ui.perfetto.dev): complete
  /// events in microseconds from start(), of category
  ///   kernel, wait  on the track "compute"
  ///   exchange      on a track for each chunk, and one for what has none; from
  ///                 the first message's posting until the last is through
  /// Throws: Io.
  void write(const std::string& path) const;

  // What the watchers tell.
  void add_kernel(std::string_view name, Clock::time_point begin);
  /// Waits that follow one another without a kernel between are one.
  void add_wait(Clock::time_point begin);
  void add_message(std::uint64_t tag, Clock::time_point begin);

 private:
  struct Span {
    const char* category;
    std::string name;
    Clock::time_point begin, end;
  };
  struct Exchange {
    std::uint64_t tag;
    Clock::time_point begin, end;
  };

  bool recording_ = false;
  Clock::time_point start_;
  std::vector<Span> computed_;
  std::vector<Exchange> exchanged_;
};

}  // namespace catena::bench
