#pragma once

#include <functional>
#include <string>

#include "runtime/base/lease.h"

namespace catena {

/// What whoever lives by a lease sees of it.
class LeaseSight {
 public:
  virtual ~LeaseSight() = default;
  [[nodiscard]] virtual BootTime now() = 0;
  [[nodiscard]] virtual BootTime until() = 0;
  virtual void sleep_until(BootTime time) = 0;
};

/// Returns when the lease is over: what time it is then.
[[nodiscard]] BootTime outlive(LeaseSight& sight);

/// Watches the lease that the agent which started this rank holds out, if
/// kLeaseVariable of launcher/contract.h names one, on a thread of its own,
/// whatever all others do; when it is over, `over` is called there, once, with
/// what is to be said. Programs that this one starts later have neither the
/// variable nor the descriptor. What is named and is no lease is warned of.
/// Thread rule: once, by the main thread.
void watch_lease(std::function<void(const std::string& text)> over);

}  // namespace catena
