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
      : sending(size), receiving(size), communicator_(communicator) {}

  [[nodiscard]] bool poll(std::uint64_t ticket) override;

  void start_reduction();
  void finish();
  /// Finishes it if all of its messages are through; sums have more to do.
  void finish_if_through() {
    if (!done && !x.defined() && through()) finish();
  }
  [[nodiscard]] bool through() const {
    const auto none = [](std::int64_t open) { return open == 0; };
    return std::all_of(sending.begin(), sending.end(), none) &&
           std::all_of(receiving.begin(), receiving.end(), none);
  }
  /// When all messages of a stage are through. Returns whether it was the last.
  [[nodiscard]] bool next_stage();
  /// For how many seconds it may be waited for.
  [[nodiscard]] double patience() const;
  /// Ranks whose part in it is open.
  [[nodiscard]] std::vector<int> missing() const;
  /// Tells the listener of parallel/wait_listener.h.
  void tell_wait(double seconds) const;

  std::uint64_t ticket = 0;
  bool done = true;
  Collective collective = Collective::kBarrier;
  Tag tag;
  int root = -1;
  /// By the transport's clock: since when the rank waits for it.
  std::optional<double> asked;
  double told = 0;  ///< seconds of the wait when it was last told
  std::vector<std::int64_t> sending, receiving;  ///< open messages, by member

  TensorView x;  ///< of reductions
  std::vector<std::int64_t> counts, begins;
  bool counted = true;  ///< the rank knows that it is done
  bool started = false, whole = false, gathering = false;

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
};

}  // namespace catena
