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

/// Issues one collective and waits for it. x has 20000 elements.
using Call = std::function<void(Communicator&, std::vector<float>&)>;
inline const std::pair<const char*, Call> kCalls[] = {
    {"all_to_all_v",
     [](Communicator& all, std::vector<float>& x) {
       std::vector<Communicator::Part> parts(
           static_cast<std::size_t>(all.size()), {x.data(), 400});
       std::vector<float> in(100 * parts.size());
       auto receive = parts;
       for (std::size_t r = 0; r < parts.size(); ++r) {
         receive[r].data = in.data() + 100 * r;
       }
       wait(all.all_to_all_v(kCallTag, parts, receive));
     }},
    {"all_gather_v",
     [](Communicator& all, std::vector<float>& x) {
       std::vector<Communicator::Part> parts;
       for (int r = 0; r < all.size(); ++r) parts.push_back({&x[r * 10], 40});
       wait(all.all_gather_v(kCallTag, parts));
     }},
    {"reduce_scatter",
     [](Communicator& all, std::vector<float>& x) {
       const std::vector<std::int64_t> counts(
           static_cast<std::size_t>(all.size()), 10);
       wait(all.reduce_scatter(
           kCallTag, {x.data(), DType::kFloat32, {10 * all.size()}}, counts));
     }},
    {"all_reduce",
     [](Communicator& all, std::vector<float>& x) {
       wait(all.all_reduce(kCallTag, {x.data(), DType::kFloat32, {20000}}));
     }},
    {"broadcast",
     [](Communicator& all, std::vector<float>& x) {
       // The last rank is the root: the one that stalls or dies below.
       wait(all.broadcast(kCallTag, all.size() - 1, x.data(), 4000));
     }},
    {"gather_v",
     [](Communicator& all, std::vector<float>& x) {
       // To the first rank, which waits for the last.
       std::vector<Communicator::Part> parts;
       for (int r = 0; r < all.size(); ++r) parts.push_back({&x[r * 10], 40});
       wait(all.gather_v(kCallTag, 0, parts));
     }},
    {"barrier", [](Communicator& all,
                   std::vector<float>&) { wait(all.barrier(kCallTag)); }},
};

}  // namespace catena::testing
