#pragma once

#include <algorithm>
#include <chrono>
#include <functional>
#include <map>
#include <random>
#include <utility>

#include "launcher/messages.h"

namespace catena::launcher {

/// Events in a time that passes from one to the next, and chance: the same for
/// the same seed.
class VirtualTime {
 public:
  explicit VirtualTime(unsigned seed) : random_(seed) {}

  int draw(int least, int most) {
    return std::uniform_int_distribution(least, most)(random_);
  }
  bool chance(double share) {
    return std::uniform_real_distribution()(random_) < share;
  }

  [[nodiscard]] Time now() const { return now_; }
  [[nodiscard]] std::chrono::milliseconds passed() const {
    return std::chrono::duration_cast<std::chrono::milliseconds>(now_ - kBegin);
  }
  void later(int after_milliseconds, std::function<void()> event) {
    wake_at(now_ + std::chrono::milliseconds(after_milliseconds),
            std::move(event));
  }
  /// Now, if `time` is over.
  void wake_at(Time time, std::function<void()> event) {
    events_.emplace(std::max(now_, time), std::move(event));
  }
  [[nodiscard]] bool is_over() const { return events_.empty(); }
  /// Of events at one time, in the order in which they were said.
  void next() {
    auto event = events_.extract(events_.begin());
    now_ = event.key();
    event.mapped()();
  }

 private:
  static constexpr Time kBegin = Time(std::chrono::seconds(1000));

  std::mt19937 random_;
  Time now_ = kBegin;
  std::multimap<Time, std::function<void()>> events_;
};

}  // namespace catena::launcher
