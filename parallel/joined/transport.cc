#include "parallel/joined/transport.h"

#include <algorithm>
#include <map>
#include <vector>

#include "parallel/complaint.h"
#include "parallel/gloo/transport.h"
#include "parallel/shared_memory/neighbours.h"
#include "parallel/shared_memory/transport.h"
#include "runtime/base/error.h"

namespace catena::joined {
namespace {

/// Which ranks are on which node, by the lowest of each.
using Nodes = std::vector<int>;

std::vector<int> ranks_of(const Nodes& nodes, int node) {
  std::vector<int> ranks;
  for (std::size_t r = 0; r < nodes.size(); ++r) {
    if (nodes[r] == node) ranks.push_back(static_cast<int>(r));
  }
  return ranks;
}

/// What a rank says when it shares memory with its node, and before the reason
/// why it does not.
constexpr const char* kJoined = "joined";
constexpr char kFailed = '!';

std::string key(const Options& options, int rank) {
  return fmt::format("{}/joined/{}", options.token, rank);
}

/// What became of a rank, by itself or by one of its node: whoever asks hears
/// one of them.
void say(Store& store, const Options& options, int rank,
         const std::string& what) {
  try {
    store.set(key(options, rank), what);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kCommunication) throw;
  }
}

/// Of all of a node, as those that are dead cannot say it themselves.
void say_failed(Store& store, const Options& options,
                const std::vector<int>& here, const std::string& why) {
  try {
    for (const int rank : here) say(store, options, rank, kFailed + why);
  } catch (const Error&) {
    // The store does not answer; `why` is the cause.
  }
}

/// "Gloo over TCP, 10.0.0.1, between 2 nodes of 1 to 2, shared memory inside".
std::string describe(const Nodes& nodes, const Transport* gloo) {
  if (gloo == nullptr) return "shared memory";
  std::map<int, int> counts;
  for (const int node : nodes) ++counts[node];
  const auto [least, most] = std::minmax_element(
      counts.begin(), counts.end(),
      [](const auto& a, const auto& b) { return a.second < b.second; });
  if (most->second == 1) return std::string(gloo->description());
  return fmt::format(
      "{}, between {} nodes of {}{}, shared memory inside", gloo->description(),
      counts.size(),
      least->second < most->second ? fmt::format("{} to ", least->second) : "",
      most->second);
}

class JoinedTransport final : public Transport {
 public:
  JoinedTransport(int rank, Nodes nodes, Store& store, const Options& options)
      : rank_(rank), nodes_(std::move(nodes)) {
    const std::vector<int> here = ranks_of(nodes_, nodes_[index(rank)]);
    if (here.size() > 1) join_here(here, store, options);
    if (here.size() < nodes_.size() || here.size() == 1) {
      hear_of_all(store, options);
      connect_others(here, store, options);
    }
    description_ = describe(nodes_, gloo_.get());
  }
  ~JoinedTransport() override {
    // Those of this node are to know before Gloo waits for the others, which
    // may have the memory still.
    if (memory_) memory_->leave();
    gloo_.reset();
  }

  [[nodiscard]] int rank() const override { return rank_; }
  [[nodiscard]] int size() const override {
    return static_cast<int>(nodes_.size());
  }
  [[nodiscard]] std::string_view description() const override {
    return description_;
  }
  [[nodiscard]] std::uint64_t node() const override {
    return static_cast<std::uint64_t>(nodes_[index(rank_)]);
  }

  void send(int to, int lane, const void* data, std::int64_t bytes,
            std::uint64_t tag, std::int64_t& open) override {
    guard([&] { wire(to).send(to, lane, data, bytes, tag, open); });
  }
  void receive(int from, int lane, void* data, std::int64_t bytes,
               std::uint64_t tag, std::int64_t& open) override {
    guard([&] { wire(from).receive(from, lane, data, bytes, tag, open); });
  }
  void progress() override {
    guard([&] {
      if (memory_) memory_->progress();
      if (gloo_) gloo_->progress();
    });
  }
  void abandon(std::string_view why) noexcept override {
    if (failure_.empty()) failure_ = gave_up(rank_, std::string(why));
    if (memory_) memory_->abandon(why);
    if (gloo_) gloo_->abandon(why);
  }

  [[nodiscard]] void* allocate(std::size_t bytes) override {
    return memory_ ? memory_->allocate(bytes) : gloo_->allocate(bytes);
  }
  void release(void* data, std::size_t bytes) noexcept override {
    memory_ ? memory_->release(data, bytes) : gloo_->release(data, bytes);
  }

 private:
  [[nodiscard]] static std::size_t index(int rank) {
    return static_cast<std::size_t>(rank);
  }

  void join_here(const std::vector<int>& here, Store& store,
                 const Options& options) {
    try {
      memory_ = shared_memory::join(store, rank_, size(),
                                    {.token = options.token,
                                     .members = here,
                                     .deadline = options.deadline,
                                     .pool_bytes = options.pool_bytes});
    } catch (const Error& error) {
      say_failed(store, options, here, error.what());
      throw;
    }
  }

  /// So that what goes wrong in a node is known in all.
  void hear_of_all(Store& store, const Options& options) const {
    say(store, options, rank_, kJoined);
    for (int other = 0; other < size(); ++other) {
      std::string said;
      try {
        said = store.get(key(options, other), options.deadline);
      } catch (const Error& error) {
        fail(error.kind(),
             "rank {} has waited {:.3g} s for rank {} to join its node: {}",
             rank_, options.deadline.count(), other, error.what());
      }
      if (said == kJoined) continue;
      fail(ErrorKind::kCommunication, "rank {} could not join: {}", other,
           said.substr(1));
    }
  }

  void connect_others(const std::vector<int>& here, Store& store,
                      const Options& options) {
    try {
      gloo_ = gloo::connect(rank_, size(), store,
                            {.address = options.address,
                             .deadline = options.deadline,
                             .without = here});
    } catch (const Error& error) {
      if (memory_) memory_->abandon(error.what());
      throw;
    }
  }

  [[nodiscard]] Transport& wire(int peer) const {
    CATENA_CHECK(peer >= 0 && peer < size() && peer != rank_,
                 "[transport] rank {} posts to {} of {}", rank_, peer, size());
    if (nodes_[index(peer)] != nodes_[index(rank_)]) return *gloo_;
    return *memory_;
  }

  /// What one of the ways knows to have failed has failed on both: nothing is
  /// left in the hands of either, and all hear of it.
  template <class Action>
  void guard(Action action) {
    if (!failure_.empty()) fail(ErrorKind::kCommunication, "{}", failure_);
    try {
      action();
    } catch (const Error& error) {
      if (error.kind() == ErrorKind::kCommunication) {
        failure_ = error.what();
        abandon(failure_);
      }
      throw;
    }
  }

  const int rank_;
  const Nodes nodes_;
  std::string description_, failure_;
  std::unique_ptr<SlotTransport> memory_;  ///< outlives what sends from it
  std::unique_ptr<Transport> gloo_;
};

}  // namespace

std::unique_ptr<Transport> connect(int rank, int size, Store& store,
                                   const Options& options) {
  Nodes nodes = shared_memory::find_neighbours(store, rank, size,
                                               {.token = options.token,
                                                .node = options.node,
                                                .deadline = options.deadline});
  return std::make_unique<JoinedTransport>(rank, std::move(nodes), store,
                                           options);
}

}  // namespace catena::joined
