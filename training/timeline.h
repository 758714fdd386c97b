#pragma once

#include <chrono>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "parallel/transport.h"
#include "runtime/backend.h"

namespace catena {

/// What one rank did, when, in some of its steps: its kernels, when it only
/// waited, and how long its exchanges were under way. A rank is watched from
/// outside, by a backend and a transport around its own: one that is not
/// watched pays nothing, and one that is next to nothing between those steps.
/// Thread rule: one thread, the rank's.
class Timeline {
 public:
  using Clock = std::chrono::steady_clock;

  /// The same backend, watched, which owns `inner`; the same transport, which
  /// borrows it, and of which no communicator was made yet. Both borrow this.
  [[nodiscard]] std::unique_ptr<Backend> watch(std::unique_ptr<Backend> inner);
  [[nodiscard]] std::unique_ptr<Transport> watch(Transport& inner);

  /// What happens between the two is written down.
  void begin_step(std::int64_t number);
  void end_step();
  [[nodiscard]] bool recording() const { return recording_; }
  /// Whether any step was written down.
  [[nodiscard]] bool empty() const { return steps_.empty(); }
  /// Forgets all of them.
  void clear();
  /// Spans that were left out: only so many are kept.
  [[nodiscard]] std::int64_t left_out() const { return left_out_; }

  /// Whose it is, for those who put the files of several ranks together.
  struct Owner {
    int rank = 0, ranks = 1;
  };
  /// As Chrome's trace events (chrome://tracing, ui.perfetto.dev), a line
  /// each: `pid` is the rank, and complete events, in microseconds from the
  /// begin of the first step, are of category
  ///   step, kernel, wait  on the track "compute"
  ///   exchange            on tracks for each chunk, and for what has none; a
  ///                       further one where several were under way at once.
  ///                       From the first message's posting until the last is
  ///                       through; `args` has the bytes that this rank sent
  /// Of each track, one is inside another or apart from it. Tracks (`tid`)
  /// count from 1, as 0 is no thread to Perfetto. The first line has
  /// `otherData`: rank, ranks, steps (the first and the last), left_out; host,
  /// a name of this boot of this machine, on which all ranks share the clock
  /// that says steady_ns; unix_ns, the same moment by the calendar: both are
  /// those of time 0.
  /// Throws: Io.
  void write(const std::filesystem::path& path, const Owner& owner) const;

  // What the watchers tell.
  void add_kernel(std::string_view name, Clock::time_point begin);
  /// Waits that follow one another without a kernel between are one.
  void add_wait(Clock::time_point begin);
  void add_message(std::uint64_t tag, std::int64_t sent_bytes,
                   Clock::time_point begin);

 private:
  struct Span {
    const char* category;
    std::string_view name;  ///< lives on
    Clock::time_point begin, end;
  };
  struct Exchange {
    std::uint64_t tag;
    std::int64_t sent_bytes;
    Clock::time_point begin, end;
  };
  struct Step {
    std::int64_t number;
    Clock::time_point begin, end;
  };
  class Writer;

  /// Of the first step.
  [[nodiscard]] Clock::time_point begin() const { return steps_.front().begin; }
  /// The exchanges of each chunk, and of none (-1), by their begin.
  [[nodiscard]] std::map<int, std::vector<Exchange>> by_chunk() const;
  /// Whether there is room for one more.
  [[nodiscard]] bool has_room();

  bool recording_ = false;
  std::vector<Step> steps_;
  std::vector<Span> computed_;
  std::vector<Exchange> exchanged_;
  /// Where in exchanged_ the last of each tag is.
  std::unordered_map<std::uint64_t, std::size_t> last_of_;
  std::int64_t left_out_ = 0;
};

}  // namespace catena
