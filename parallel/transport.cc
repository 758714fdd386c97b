#include "parallel/transport.h"

#include <algorithm>
#include <chrono>

#include "runtime/base/error.h"
#include "runtime/base/machine.h"

namespace catena {

std::uint64_t Transport::node() const { return host_id(); }

int Transport::take_lanes(int count) {
  if (lanes_taken_ + count > kLanes) {
    fail(ErrorKind::kUnsupported, "more than {} lanes between two ranks",
         kLanes);
  }
  const int first = lanes_taken_;
  lanes_taken_ += count;
  return first;
}

void Transport::give_lanes_back(int first, int count) {
  if (first + count == lanes_taken_) lanes_taken_ = first;
}

void Transport::advance() {
  if (std::none_of(clients_.begin(), clients_.end(),
                   [](const Client* client) { return client->busy(); })) {
    return;
  }
  progress();
  for (Client* client : clients_) client->advance();
}

double Transport::now() const {
  return std::chrono::duration<double>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

}  // namespace catena
