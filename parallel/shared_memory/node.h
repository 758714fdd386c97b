#pragma once

#include <string>
#include <vector>

#include "parallel/shared_memory/segment.h"
#include "parallel/shared_memory/transport.h"

namespace catena::shared_memory {

/// The segments of all ranks of a node, as one of them has mapped them: see
/// join().
class Node {
 public:
  Node(Store& store, int rank, int size, const Options& options);

  /// Place of a rank among the members, or -1.
  [[nodiscard]] int place(int rank) const {
    return places_[static_cast<std::size_t>(rank)];
  }
  [[nodiscard]] const Segment& segment(int place) const {
    return segments_[static_cast<std::size_t>(place)];
  }
  [[nodiscard]] const Segment& own() const { return segment(own_); }
  [[nodiscard]] Segment& own() {
    return segments_[static_cast<std::size_t>(own_)];
  }

 private:
  void find_places(int size);
  void create_own(Store& store);
  [[nodiscard]] std::vector<std::string> names_of_all(Store& store) const;
  void open_others(const std::vector<std::string>& names);
  void wait_for_others();
  void check(int place);
  [[nodiscard]] std::chrono::duration<double> left() const;
  [[nodiscard]] std::string key(int rank) const;

  std::string token_;
  std::vector<int> members_, places_;
  std::chrono::steady_clock::time_point begin_;
  std::chrono::duration<double> deadline_;
  std::size_t pool_bytes_;
  int rank_, own_ = 0;
  std::vector<Segment> segments_;
};

}  // namespace catena::shared_memory
