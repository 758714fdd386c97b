#pragma once

#include <algorithm>
#include <optional>
#include <vector>

#include "parallel/communicator.h"

namespace catena {

/// One collective under way.
class Communicator::Round final : public Operation {
 public:
  Round(Communicator& communicator, std::size_t size)
      : communicator_(communicator), sending(size), receiving(size) {}

  [[nodiscard]] bool poll(std::uint64_t ticket) override;

  void start_reduction();
  void finish();
  /// Finishes it if all of its messages are through; sums have more to do.
  void finish_if_through() {
    if (!done && !x.defined() && through()) finish();
  }
  /// Enters it into the communicator's traffic, when it is waited for.
  void count();
  [[nodiscard]] bool through() const {
    const auto none = [](std::int64_t open) { return open == 0; };
    return std::all_of(sending.begin(), sending.end(), none) &&
           std::all_of(receiving.begin(), receiving.end(), none);
  }
  /// When all messages of a stage are through. Returns whether it was the last.
  [[nodiscard]] bool next_stage();
  /// For how many seconds it may be waited for.
  [[nodiscard]] double patience() const;

 private:
  [[nodiscard]] std::byte* run(int member) const {
    return static_cast<std::byte*>(x.data()) +
           begins[static_cast<std::size_t>(member)] * size_bytes(x.dtype());
  }
  [[nodiscard]] Part run_part(int member) const {
    return {run(member),
            counts[static_cast<std::size_t>(member)] * size_bytes(x.dtype())};
  }

  Communicator& communicator_;

 public:
  std::uint64_t ticket = 0;
  bool done = true;
  Collective collective = Collective::kBarrier;
  Tag tag;
  int root = -1;
  /// By the transport's clock; asked: since when the rank waits for it.
  double since = 0, finished = 0;
  std::optional<double> asked;
  /// Of the communicator: at issue, and when it was asked for or finished.
  double exposed_before = 0, exposed_after = 0;
  std::vector<std::int64_t> sending, receiving;  ///< open messages, by member

  TensorView x;  ///< of reductions
  std::vector<std::int64_t> counts, begins;
  bool counted = true;
  bool started = false, whole = false, gathering = false;
};

}  // namespace catena
