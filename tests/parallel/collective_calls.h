#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "parallel/communicator.h"

namespace catena::testing {

/// Where in a model the collectives below stand.
inline constexpr Tag kCallTag{
    .phase = Phase::kDispatch, .layer = 2, .iteration = 1, .chunk = 0};
/// As errors must name it.
inline std::string whole_name(const char* collective) {
  return std::string(collective) + " (dispatch, layer 2, iteration 1, chunk 0)";
}

/// Issues one collective and waits for it. A rank's part is a 200th of x.
using Call = std::function<void(Communicator&, std::vector<float>&)>;
inline std::vector<Communicator::Part> parts_of(const Communicator& all,
                                                std::vector<float>& x) {
  std::vector<Communicator::Part> parts;
  const std::size_t count = x.size() / 200;
  for (std::size_t r = 0; r < static_cast<std::size_t>(all.size()); ++r) {
    parts.push_back({&x[r * count], static_cast<std::int64_t>(count * 4)});
  }
  return parts;
}
inline const std::pair<const char*, Call> kCalls[] = {
    {"all_to_all_v",
     [](Communicator& all, std::vector<float>& x) {
       std::vector<float> in(x.size());
       wait(all.all_to_all_v(kCallTag, parts_of(all, x), parts_of(all, in)));
     }},
    {"all_gather_v",
     [](Communicator& all, std::vector<float>& x) {
       wait(all.all_gather_v(kCallTag, parts_of(all, x)));
     }},
    {"reduce_scatter",
     [](Communicator& all, std::vector<float>& x) {
       const std::vector<std::int64_t> counts(
           static_cast<std::size_t>(all.size()),
           static_cast<std::int64_t>(x.size() / 200));
       wait(all.reduce_scatter(
           kCallTag, {x.data(), DType::kFloat32, {counts[0] * all.size()}},
           counts));
     }},
    {"all_reduce",
     [](Communicator& all, std::vector<float>& x) {
       wait(all.all_reduce(
           kCallTag,
           {x.data(), DType::kFloat32, {static_cast<std::int64_t>(x.size())}}));
     }},
    {"broadcast",
     [](Communicator& all, std::vector<float>& x) {
       // The last rank is the root: the one that stalls or dies below.
       wait(all.broadcast(kCallTag, all.size() - 1, x.data(),
                          static_cast<std::int64_t>(x.size() / 5)));
     }},
    {"gather_v",
     [](Communicator& all, std::vector<float>& x) {
       // To the first rank, which waits for the last.
       wait(all.gather_v(kCallTag, 0, parts_of(all, x)));
     }},
    {"barrier", [](Communicator& all,
                   std::vector<float>&) { wait(all.barrier(kCallTag)); }},
};

}  // namespace catena::testing
