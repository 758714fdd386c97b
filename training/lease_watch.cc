#include "training/lease_watch.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <ctime>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>

#include "launcher/contract.h"
#include "runtime/base/error.h"
#include "runtime/base/log.h"
#include "runtime/base/signals_held.h"

namespace catena {
namespace {

class AgentLease : public LeaseSight {
 public:
  explicit AgentLease(LeaseView view) : view_(std::move(view)) {}

  [[nodiscard]] BootTime now() override { return boot_time(); }
  [[nodiscard]] BootTime until() override { return view_.until(); }
  void sleep_until(BootTime time) override {
    const auto seconds = std::chrono::floor<std::chrono::seconds>(time);
    const std::timespec at{.tv_sec = seconds.count(),
                           .tv_nsec = (time - seconds).count()};
    const int error =
        ::clock_nanosleep(CLOCK_BOOTTIME, TIMER_ABSTIME, &at, nullptr);
    if (error != 0 && error != EINTR) {
      std::this_thread::sleep_for(time - boot_time());
    }
  }
  /// For so long it was not renewed.
  [[nodiscard]] double silence(BootTime now) const {
    return std::chrono::duration<double>(now - view_.until() + view_.length())
        .count();
  }

 private:
  LeaseView view_;
};

/// None: the variable is not set, or names none.
std::optional<AgentLease> take_lease() {
  const char* told = std::getenv(kLeaseVariable);
  if (told == nullptr) return std::nullopt;
  const std::string name = told;
  ::unsetenv(kLeaseVariable);
  try {
    const int descriptor = std::atoi(name.c_str());
    std::optional<AgentLease> lease(LeaseView{descriptor});
    ::close(descriptor);
    return lease;
  } catch (const Error& error) {
    log::warning("{}={}: {}; if this rank's agent is stopped, the rank goes on",
                 kLeaseVariable, name, error.what());
    return std::nullopt;
  }
}

}  // namespace

BootTime outlive(LeaseSight& sight) {
  for (;;) {
    // In this order: one that is stopped in between, and goes on, sees what was
    // renewed since.
    const BootTime now = sight.now();
    const BootTime until = sight.until();
    if (now >= until) return now;
    sight.sleep_until(until);
  }
}

void watch_lease(std::function<void(const std::string& text)> over) {
  auto lease = take_lease();
  if (!lease) return;
  const SignalsHeld held;  // signals are for the thread that trains
  try {
    std::thread([own = std::move(*lease), over = std::move(over)]() mutable {
      const BootTime now = outlive(own);
      over(fmt::format(
          "this rank's agent has heard nothing of the launcher for {:.1f} s: "
          "it is stopped, or this machine was; the rank ends, and saves "
          "nothing",
          own.silence(now)));
    }).detach();
  } catch (const std::system_error& error) {
    log::warning(
        "no thread to watch the lease of this rank's agent ({}); if "
        "that is stopped, the rank goes on",
        error.what());
  }
}

}  // namespace catena
