#pragma once

#include <functional>
#include <memory>

#include "parallel/link.h"
#include "parallel/transport.h"

namespace catena {

/// How long messages take between ranks that do the same at the same time.
struct WireModel {
  int ranks_per_node = 1;
  Link inside, across;  ///< a node, and between nodes: queues of their own
  /// Seconds that the rank has computed so far.
  std::function<double()> computed;
};

/// One rank of `size` on the meta backend. Messages carry nothing; what is
/// sent is counted by the communicators. With a model they take time: now() is
/// what was computed and waited for. Without one they are through at once.
[[nodiscard]] std::unique_ptr<Transport> make_meta_transport(int rank,
                                                             int size);
[[nodiscard]] std::unique_ptr<Transport> make_meta_transport(int rank, int size,
                                                             WireModel model);

}  // namespace catena
