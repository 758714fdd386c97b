#include "training/timeline.h"

#include <algorithm>
#include <list>
#include <map>
#include <utility>

namespace catena {
namespace {

/// Kernels that run another backend's and tell when. One overload of run() for
/// each of Kinds.
template <class... Kinds>
class Watched;

template <>
class Watched<> : public Kernels {
 protected:
  using Kernels::run;
  Watched(Kernels& inner, Timeline& timeline)
      : inner_(inner), timeline_(timeline) {}
  Kernels& inner_;
  Timeline& timeline_;
};

template <class Kind, class... Rest>
class Watched<Kind, Rest...> : public Watched<Rest...> {
 protected:
  using Watched<Rest...>::Watched;
  using Watched<Rest...>::run;
  void run(const Kind& kernel) override {
    if (!this->timeline_.recording()) return this->inner_(kernel);
    const auto begin = Timeline::Clock::now();
    this->inner_(kernel);
    this->timeline_.add_kernel(Kind::kName, begin);
  }
};

class WatchedKernels final
    : public Watched<
          Gemm, GroupedGemm, GroupedGemmGradient, GroupRows, PartitionRows,
          GatherRows, ScatterAddRows, CombineRows, TopK, TopKGradient,
          SegmentSums, BalanceLoss, PairCounts, RmsNorm, RmsNormGradient, Rope,
          Attention, AttentionGradient, SwiGlu, SwiGluGradient, CrossEntropy,
          AdamW, SumSquares, Sum, CountNonFinite, Add, Copy, Fill, SumMiddle> {
 public:
  WatchedKernels(Kernels& inner, Timeline& timeline)
      : Watched(inner, timeline) {}
};

class WatchedBackend final : public Backend {
 public:
  WatchedBackend(std::unique_ptr<Backend> inner, Timeline& timeline)
      : inner_(std::move(inner)), kernels_(inner_->kernels(), timeline) {}

  [[nodiscard]] DeviceKind kind() const override { return inner_->kind(); }
  [[nodiscard]] std::string description() const override {
    return inner_->description();
  }
  [[nodiscard]] DType fast_type() const override { return inner_->fast_type(); }
  void copy_from_host(void* device, const void* host,
                      std::size_t bytes) override {
    inner_->copy_from_host(device, host, bytes);
  }
  void copy_to_host(void* host, const void* device,
                    std::size_t bytes) override {
    inner_->copy_to_host(host, device, bytes);
  }
  void clear(void* device, std::size_t bytes) override {
    inner_->clear(device, bytes);
  }
  [[nodiscard]] Kernels& kernels() override { return kernels_; }
  void set_background(Background* background) override {
    inner_->set_background(background);
  }

 private:
  [[nodiscard]] void* take(std::size_t bytes) override {
    void* data = inner_->allocate(bytes);
    sizes_[data] = bytes;
    return data;
  }
  void give_back(void* data) override {
    const auto at = sizes_.find(data);
    inner_->release(data, at->second);
    sizes_.erase(at);
  }

  std::unique_ptr<Backend> inner_;
  WatchedKernels kernels_;
  std::map<void*, std::size_t> sizes_;
};

class WatchedTransport final : public Transport {
 public:
  WatchedTransport(Transport& inner, Timeline& timeline)
      : inner_(inner), timeline_(timeline) {}

  [[nodiscard]] int rank() const override { return inner_.rank(); }
  [[nodiscard]] int size() const override { return inner_.size(); }
  [[nodiscard]] std::string_view description() const override {
    return inner_.description();
  }
  [[nodiscard]] bool carries() const override { return inner_.carries(); }
  [[nodiscard]] std::uint64_t node() const override { return inner_.node(); }
  [[nodiscard]] double now() const override { return inner_.now(); }

  void send(int to, int lane, const void* data, std::int64_t bytes,
            std::uint64_t tag, std::int64_t& open) override {
    inner_.send(to, lane, data, bytes, tag, counted(tag, bytes, open));
  }
  void receive(int from, int lane, void* data, std::int64_t bytes,
               std::uint64_t tag, std::int64_t& open) override {
    inner_.receive(from, lane, data, bytes, tag, counted(tag, 0, open));
  }
  void progress() override {
    inner_.progress();
    look();
  }
  bool idle() override {
    if (!timeline_.recording()) {
      const bool moved = inner_.idle();
      look();
      return moved;
    }
    const auto begin = Timeline::Clock::now();
    const bool moved = inner_.idle();
    look();
    timeline_.add_wait(begin);
    return moved;
  }
  void abandon(std::string_view why) noexcept override { inner_.abandon(why); }
  [[nodiscard]] bool abandons_by_exit() const override {
    return inner_.abandons_by_exit();
  }
  [[nodiscard]] void* allocate(std::size_t bytes) override {
    return inner_.allocate(bytes);
  }
  void release(void* data, std::size_t bytes) noexcept override {
    inner_.release(data, bytes);
  }

 private:
  struct Message {
    std::uint64_t tag;
    std::int64_t sent_bytes;
    Timeline::Clock::time_point begin;
    std::int64_t* outer;
    std::int64_t open = 0;
  };

  /// While it is recorded a count of the message's own, to see when it is
  /// through.
  std::int64_t& counted(std::uint64_t tag, std::int64_t sent_bytes,
                        std::int64_t& open) {
    if (!timeline_.recording()) return open;
    ++open;
    messages_.push_back({tag, sent_bytes, Timeline::Clock::now(), &open});
    return messages_.back().open;
  }
  void look() {
    messages_.remove_if([&](const Message& message) {
      if (message.open > 0) return false;
      --*message.outer;
      timeline_.add_message(message.tag, message.sent_bytes, message.begin);
      return true;
    });
  }

  Transport& inner_;
  Timeline& timeline_;
  std::list<Message> messages_;
};

/// What is kept at most: some 100 MB.
constexpr std::size_t kMostSpans = 1'000'000;

}  // namespace

std::unique_ptr<Backend> Timeline::watch(std::unique_ptr<Backend> inner) {
  return std::make_unique<WatchedBackend>(std::move(inner), *this);
}

std::unique_ptr<Transport> Timeline::watch(Transport& inner) {
  return std::make_unique<WatchedTransport>(inner, *this);
}

void Timeline::clear() {
  steps_.clear();
  computed_.clear();
  exchanged_.clear();
  left_out_ = 0;
}

void Timeline::begin_step(std::int64_t number) {
  last_of_.clear();
  recording_ = true;
  steps_.push_back({number, Clock::now(), {}});
}

void Timeline::end_step() {
  recording_ = false;
  steps_.back().end = Clock::now();
}

bool Timeline::has_room() {
  if (computed_.size() + exchanged_.size() < kMostSpans) return true;
  ++left_out_;
  return false;
}

void Timeline::add_kernel(std::string_view name, Clock::time_point begin) {
  const auto end = Clock::now();
  if (has_room()) computed_.push_back({"kernel", name, begin, end});
}

void Timeline::add_wait(Clock::time_point begin) {
  const auto end = Clock::now();
  // Once a span was left out, a kernel may have been between.
  const bool again = left_out_ == 0 && !computed_.empty() &&
                     computed_.back().name == "wait" &&
                     computed_.back().begin >= steps_.back().begin;
  if (again) {
    computed_.back().end = end;
  } else if (has_room()) {
    computed_.push_back({"wait", "wait", begin, end});
  }
}

void Timeline::add_message(std::uint64_t tag, std::int64_t sent_bytes,
                           Clock::time_point begin) {
  // One that was posted in an earlier step is no part of this one.
  if (!recording_ || begin < steps_.back().begin) return;
  const auto end = Clock::now();
  const auto last = last_of_.find(tag);
  if (last != last_of_.end() && begin <= exchanged_[last->second].end) {
    Exchange& same = exchanged_[last->second];
    same.begin = std::min(same.begin, begin);
    same.end = end;
    same.sent_bytes += sent_bytes;
  } else if (has_room()) {
    last_of_[tag] = exchanged_.size();
    exchanged_.push_back({tag, sent_bytes, begin, end});
  }
}

}  // namespace catena
