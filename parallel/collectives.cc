#include <cstring>

#include "parallel/communicator.h"
#include "parallel/round.h"
#include "runtime/base/error.h"

namespace catena {

Pending Communicator::all_to_all_v(const Tag& tag, std::span<const Part> send,
                                   std::span<const Part> receive) {
  CATENA_CHECK(
      send.size() == members_.size() && receive.size() == members_.size(),
      "[all_to_all_v] {} and {} parts for {} ranks", send.size(),
      receive.size(), members_.size());
  const auto me = static_cast<std::size_t>(rank_);
  CATENA_CHECK(send[me].bytes == receive[me].bytes,
               "[all_to_all_v] own part of {} and {} bytes", send[me].bytes,
               receive[me].bytes);
  Round& round = begin(Collective::kAllToAllV, tag);
  for (int i = 1; i < size(); ++i) {
    const int to = (rank_ + i) % size();
    this->send(round, 0, to, send[static_cast<std::size_t>(to)]);
    const int from = (rank_ + size() - i) % size();
    this->receive(round, 0, from, receive[static_cast<std::size_t>(from)]);
  }
  if (send[me].data != receive[me].data && send[me].bytes > 0 &&
      transport_->carries()) {
    std::memcpy(receive[me].data, send[me].data,
                static_cast<std::size_t>(send[me].bytes));
  }
  return issued(round);
}

Pending Communicator::all_gather_v(const Tag& tag,
                                   std::span<const Part> parts) {
  CATENA_CHECK(parts.size() == members_.size(),
               "[all_gather_v] {} parts for {} ranks", parts.size(),
               members_.size());
  Round& round = begin(Collective::kAllGatherV, tag);
  for (int i = 1; i < size(); ++i) {
    send(round, 0, (rank_ + i) % size(),
         parts[static_cast<std::size_t>(rank_)]);
    const int from = (rank_ + size() - i) % size();
    receive(round, 0, from, parts[static_cast<std::size_t>(from)]);
  }
  return issued(round);
}

Pending Communicator::gather_v(const Tag& tag, int root,
                               std::span<const Part> parts) {
  CATENA_CHECK(parts.size() == members_.size() && root >= 0 && root < size(),
               "[gather_v] {} parts for {} ranks, to {}", parts.size(),
               members_.size(), root);
  Round& round = begin(Collective::kGatherV, tag, root);
  if (rank_ != root) {
    send(round, 0, root, parts[static_cast<std::size_t>(rank_)]);
    return issued(round);
  }
  for (int r = 0; r < size(); ++r) {
    if (r != root) receive(round, 0, r, parts[static_cast<std::size_t>(r)]);
  }
  return issued(round);
}

Pending Communicator::broadcast(const Tag& tag, int root, void* data,
                                std::int64_t bytes) {
  CATENA_CHECK(root >= 0 && root < size(), "[broadcast] from {} of {}", root,
               size());
  Round& round = begin(Collective::kBroadcast, tag, root);
  if (rank_ != root) {
    receive(round, 0, root, {data, bytes});
    return issued(round);
  }
  for (int i = 1; i < size(); ++i) {
    send(round, 0, (rank_ + i) % size(), {data, bytes});
  }
  return issued(round);
}

Pending Communicator::barrier(const Tag& tag) {
  Round& round = begin(Collective::kBarrier, tag);
  for (int i = 1; i < size(); ++i) {
    send(round, 0, (rank_ + i) % size(), {});
    receive(round, 0, (rank_ + size() - i) % size(), {});
  }
  return issued(round);
}

}  // namespace catena
