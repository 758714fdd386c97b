#include "parallel/meta/transport.h"

#include <algorithm>
#include <array>
#include <new>
#include <queue>
#include <vector>

namespace catena {
namespace {

constexpr std::size_t kAlignment = 64;

class MetaTransport : public Transport {
 public:
  MetaTransport(int rank, int size) : rank_(rank), size_(size) {}

  [[nodiscard]] int rank() const override { return rank_; }
  [[nodiscard]] int size() const override { return size_; }
  [[nodiscard]] std::string_view description() const override {
    return "meta: messages without content";
  }
  [[nodiscard]] bool carries() const override { return false; }
  void send(int, int, const void*, std::int64_t, std::uint64_t,
            std::int64_t&) override {}
  void receive(int, int, void*, std::int64_t, std::uint64_t,
               std::int64_t&) override {}
  void progress() override {}
  void abandon(std::string_view) noexcept override {}
  [[nodiscard]] void* allocate(std::size_t bytes) override {
    return ::operator new(bytes, std::align_val_t(kAlignment));
  }
  void release(void* data, std::size_t) noexcept override {
    ::operator delete(data, std::align_val_t(kAlignment));
  }

 private:
  int rank_, size_;
};

class TimedMetaTransport final : public MetaTransport {
 public:
  TimedMetaTransport(int rank, int size, WireModel model)
      : MetaTransport(rank, size), model_(std::move(model)) {}

  [[nodiscard]] std::string_view description() const override {
    return "meta: messages that take time, without content";
  }
  [[nodiscard]] double now() const override {
    return model_.computed() + waited_;
  }

  void send(int to, int, const void*, std::int64_t bytes, std::uint64_t,
            std::int64_t& open) override {
    const Link& link = link_to(to);
    if (link.takes_core) {
      waited_ += link.seconds(bytes);
    } else {
      post(link, out_[across(to)], 0, bytes, open);
    }
  }
  // The other rank sends when this one does, so it takes part in nothing else.
  void receive(int from, int, void*, std::int64_t bytes, std::uint64_t,
               std::int64_t& open) override {
    const Link& link = link_to(from);
    if (link.takes_core) {
      ++open;
      copies_.push_back({link.seconds(bytes), &open});
    } else {
      post(link, in_[across(from)], link.latency_seconds, bytes, open);
    }
  }
  void progress() override {
    const double time = now();
    while (!under_way_.empty() && under_way_.top().at <= time) {
      --*under_way_.top().open;
      under_way_.pop();
    }
  }
  bool idle() override {
    const bool moved = !copies_.empty() || !under_way_.empty();
    if (!copies_.empty()) {
      for (const Message& copy : copies_) {
        waited_ += copy.at;
        --*copy.open;
      }
      copies_.clear();
    } else if (!under_way_.empty()) {
      waited_ += std::max(0.0, under_way_.top().at - now());
      // Sums of floating point may fall short of what they add up to.
      --*under_way_.top().open;
      under_way_.pop();
    }
    progress();
    return moved;
  }

 private:
  struct Message {
    double at;  ///< when it is through; of a copy: its seconds
    std::int64_t* open;
    bool operator<(const Message& other) const { return at > other.at; }
  };

  [[nodiscard]] std::size_t across(int peer) const {
    return peer / model_.ranks_per_node == rank() / model_.ranks_per_node ? 0
                                                                          : 1;
  }
  [[nodiscard]] const Link& link_to(int peer) const {
    return across(peer) == 0 ? model_.inside : model_.across;
  }
  void post(const Link& link, double& free, double latency, std::int64_t bytes,
            std::int64_t& open) {
    ++open;
    free = std::max(free, now()) + link.seconds(bytes);
    under_way_.push({free + latency, &open});
  }

  WireModel model_;
  double waited_ = 0;
  std::array<double, 2> out_{}, in_{};  ///< until when queues are taken
  std::priority_queue<Message> under_way_;
  std::vector<Message> copies_;
};

}  // namespace

std::unique_ptr<Transport> make_meta_transport(int rank, int size) {
  return std::make_unique<MetaTransport>(rank, size);
}

std::unique_ptr<Transport> make_meta_transport(int rank, int size,
                                               WireModel model) {
  return std::make_unique<TimedMetaTransport>(rank, size, std::move(model));
}

}  // namespace catena
