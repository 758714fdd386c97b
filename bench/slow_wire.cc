#include "bench/slow_wire.h"

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "runtime/base/error.h"

namespace catena::bench {
namespace {

constexpr const char* kOwnNetwork = "/proc/self/ns/net";
constexpr const char* kAddress = "10.77.0.";
constexpr std::uint16_t kPort = 29400;

[[noreturn]] void cannot(const char* what) {
  fail(ErrorKind::kUnsupported,
       "no slow wire here: {} ({}); run as root, where network namespaces are "
       "allowed, or measure with --link simulated",
       what, std::strerror(errno));
}

int own_network() {
  const int file = ::open(kOwnNetwork, O_RDONLY | O_CLOEXEC);
  if (file < 0) cannot("this kernel has no network namespaces");
  return file;
}

void move_to(int network) {
  if (::setns(network, CLONE_NEWNET) != 0) {
    cannot("a network namespace cannot be entered");
  }
}

}  // namespace

SlowWire::SlowWire() : home_(own_network()) {
  for (int& end : ends_) {
    if (::unshare(CLONE_NEWNET) != 0) {
      const int why = errno;
      ::close(home_);
      errno = why;
      cannot("a network namespace cannot be made");
    }
    end = own_network();
  }
  move_to(home_);
  at(0, fmt::format("ip link add wire0 type veth peer name wire1 netns "
                    "/proc/{}/fd/{}",
                    ::getpid(), ends_[1]));
  for (int end = 0; end < 2; ++end) {
    at(end, fmt::format("ip addr add {}{}/24 dev wire{} && ip link set lo up "
                        "&& ip link set wire{} up",
                        kAddress, end + 1, end, end));
  }
}

SlowWire::~SlowWire() {
  for (const int file : {home_, ends_[0], ends_[1]}) ::close(file);
}

void SlowWire::set_rate(double bytes_per_second) {
  // A bucket of two packets as large as they come, or of a millisecond, which
  // is how often this kernel may look; and room for what TCP has under way.
  const auto burst =
      static_cast<std::int64_t>(std::max(131072.0, 1e-3 * bytes_per_second));
  for (int end = 0; end < 2; ++end) {
    at(end, fmt::format("tc qdisc replace dev wire{} root tbf rate {:.0f}bit "
                        "burst {} limit {}",
                        end, 8 * bytes_per_second, burst, 64 * burst));
  }
}

void SlowWire::enter(int rank) const {
  move_to(ends_.at(static_cast<std::size_t>(rank)));
}

tcp::Endpoint SlowWire::meeting_point() {
  return {fmt::format("{}1", kAddress), kPort};
}

void SlowWire::at(int end, const std::string& command) const {
  enter(end);
  const int status = std::system(command.c_str());
  move_to(home_);
  if (status == 0) return;
  fail(ErrorKind::kUnsupported,
       "no slow wire here: `{}` failed (status {}); its words are above. It "
       "needs root, iproute2, and a kernel with veth and sch_tbf; or measure "
       "with --link simulated",
       command, status);
}

}  // namespace catena::bench
