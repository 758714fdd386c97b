#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace catena {

/// `[spikes]`.
struct SpikeConfig {
  std::string action = "off";  ///< off | skip | rewind
  double deviations = 8;
  std::int64_t window = 64;
  std::int64_t most_in_a_row = 10;
};

/// Tells a step whose loss or gradient norm leaps up from those before it.
///   spike  <=>  x - median > deviations * max(1.4826 MAD, 0.01 |median|)
/// over the last `window` steps that were taken, once there are sixteen. MAD
/// is the median absolute deviation; 1.4826 MAD estimates the standard
/// deviation and, unlike it, is not moved by the spikes themselves.
/// A loss or norm that is not finite is always one.
class SpikeGuard {
 public:
  explicit SpikeGuard(const SpikeConfig& config);

  /// What must be kept for a resumed run to decide alike.
  struct State {
    std::vector<double> losses, norms;  ///< oldest first, at most `window`
    std::int64_t skipped = 0, rewound = 0;
    std::int64_t in_a_row = 0;  ///< spikes since a step was taken
    bool operator==(const State&) const = default;
  };

  /// Empty if the step may be taken; else what leapt, for people: "loss 7.91
  /// is 12.3 deviations above 2.61". Allocates for those words alone.
  [[nodiscard]] std::string judge(double loss, double norm);
  /// The step was taken.
  void accept(double loss, double norm);

  [[nodiscard]] State& state() { return state_; }
  [[nodiscard]] const State& state() const { return state_; }

 private:
  [[nodiscard]] std::string judge_one(const char* what, double x,
                                      const std::vector<double>& before);

  SpikeConfig config_;
  std::vector<double> scratch_;  ///< of judge_one(), with room for `window`
  State state_;
};

}  // namespace catena
