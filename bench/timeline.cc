#include "bench/timeline.h"

#include <algorithm>
#include <list>
#include <map>

#include "parallel/tag.h"
#include "runtime/base/files.h"

namespace catena::bench {
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
  WatchedBackend(Backend& inner, Timeline& timeline)
      : inner_(inner), kernels_(inner.kernels(), timeline) {}

  [[nodiscard]] DeviceKind kind() const override { return inner_.kind(); }
  [[nodiscard]] std::string description() const override {
    return inner_.description();
  }
  [[nodiscard]] DType fast_type() const override { return inner_.fast_type(); }
  void copy_from_host(void* device, const void* host,
                      std::size_t bytes) override {
    inner_.copy_from_host(device, host, bytes);
  }
  void copy_to_host(void* host, const void* device,
                    std::size_t bytes) override {
    inner_.copy_to_host(host, device, bytes);
  }
  void clear(void* device, std::size_t bytes) override {
    inner_.clear(device, bytes);
  }
  [[nodiscard]] Kernels& kernels() override { return kernels_; }
  void set_background(Background* background) override {
    inner_.set_background(background);
  }

 private:
  [[nodiscard]] void* take(std::size_t bytes) override {
    void* data = inner_.allocate(bytes);
    sizes_[data] = bytes;
    return data;
  }
  void give_back(void* data) override {
    const auto at = sizes_.find(data);
    inner_.release(data, at->second);
    sizes_.erase(at);
  }

  Backend& inner_;
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
  [[nodiscard]] double now() const override { return inner_.now(); }

  void send(int to, int lane, const void* data, std::int64_t bytes,
            std::uint64_t tag, std::int64_t& open) override {
    inner_.send(to, lane, data, bytes, tag, posted(tag, open));
  }
  void receive(int from, int lane, void* data, std::int64_t bytes,
               std::uint64_t tag, std::int64_t& open) override {
    inner_.receive(from, lane, data, bytes, tag, posted(tag, open));
  }
  void progress() override {
    inner_.progress();
    look();
  }
  bool idle() override {
    const auto begin = Timeline::Clock::now();
    const bool moved = inner_.idle();
    look();
    timeline_.add_wait(begin);
    return moved;
  }
  void abandon(std::string_view why) noexcept override { inner_.abandon(why); }
  [[nodiscard]] void* allocate(std::size_t bytes) override {
    return inner_.allocate(bytes);
  }
  void release(void* data, std::size_t bytes) noexcept override {
    inner_.release(data, bytes);
  }

 private:
  struct Message {
    std::uint64_t tag;
    Timeline::Clock::time_point begin;
    std::int64_t* outer;
    std::int64_t open = 0;
  };

  /// A count of the message's own, to see when it is through.
  std::int64_t& posted(std::uint64_t tag, std::int64_t& open) {
    ++open;
    messages_.push_back({tag, Timeline::Clock::now(), &open});
    return messages_.back().open;
  }
  void look() {
    messages_.remove_if([&](const Message& message) {
      if (message.open > 0) return false;
      --*message.outer;
      timeline_.add_message(message.tag, message.begin);
      return true;
    });
  }

  Transport& inner_;
  Timeline& timeline_;
  std::list<Message> messages_;
};

/// The number behind "chunk ", or -1.
int chunk_of(const std::string& text) {
  constexpr std::string_view kWord = "chunk ";
  const auto at = text.find(kWord);
  return at == std::string::npos ? -1
                                 : std::stoi(text.substr(at + kWord.size()));
}

}  // namespace

std::unique_ptr<Backend> Timeline::watch(Backend& inner) {
  return std::make_unique<WatchedBackend>(inner, *this);
}

std::unique_ptr<Transport> Timeline::watch(Transport& inner) {
  return std::make_unique<WatchedTransport>(inner, *this);
}

void Timeline::start() {
  recording_ = true;
  start_ = Clock::now();
  computed_.clear();
  exchanged_.clear();
}

void Timeline::add_kernel(std::string_view name, Clock::time_point begin) {
  if (!recording_) return;
  computed_.push_back({"kernel", std::string(name), begin, Clock::now()});
}

void Timeline::add_wait(Clock::time_point begin) {
  // Longer than a rank that waits sleeps between looks.
  constexpr std::chrono::milliseconds kSame(2);
  if (!recording_) return;
  const auto end = Clock::now();
  if (!computed_.empty() && computed_.back().name == "wait" &&
      begin - computed_.back().end < kSame) {
    computed_.back().end = end;
  } else {
    computed_.push_back({"wait", "wait", begin, end});
  }
}

void Timeline::add_message(std::uint64_t tag, Clock::time_point begin) {
  if (!recording_) return;
  const auto end = Clock::now();
  const auto same = std::find_if(
      exchanged_.rbegin(), exchanged_.rend(),
      [&](const Exchange& e) { return e.tag == tag && begin <= e.end; });
  if (same == exchanged_.rend()) {
    exchanged_.push_back({tag, begin, end});
  } else {
    same->begin = std::min(same->begin, begin);
    same->end = end;
  }
}

void Timeline::write(const std::string& path) const {
  constexpr int kCompute = 0, kChunkless = 1, kFirstChunk = 2;
  std::map<int, std::string> tracks{{kCompute, "compute"}};
  std::string events;
  const auto add = [&](int track, std::string_view category,
                       std::string_view name, Clock::time_point begin,
                       Clock::time_point end) {
    using Microseconds = std::chrono::duration<double, std::micro>;
    events += fmt::format(
        "{{\"ph\": \"X\", \"pid\": 0, \"tid\": {}, \"cat\": \"{}\", \"name\": "
        "\"{}\", \"ts\": {:.1f}, \"dur\": {:.1f}}},\n",
        track, category, name, Microseconds(begin - start_).count(),
        Microseconds(end - begin).count());
  };
  for (const Span& span : computed_) {
    add(kCompute, span.category, span.name, span.begin, span.end);
  }
  for (const Exchange& exchange : exchanged_) {
    const std::string name = text_of(exchange.tag);
    const int chunk = chunk_of(name);
    const int track = chunk < 0 ? kChunkless : kFirstChunk + chunk;
    tracks[track] =
        chunk < 0 ? "wire, all chunks" : fmt::format("wire, chunk {}", chunk);
    add(track, "exchange", name, exchange.begin, exchange.end);
  }
  for (const auto& [track, name] : tracks) {
    events += fmt::format(
        "{{\"ph\": \"M\", \"pid\": 0, \"tid\": {}, \"name\": \"thread_name\", "
        "\"args\": {{\"name\": \"{}\"}}}},\n",
        track, name);
  }
  events.erase(events.size() - 2);
  write_file_atomically(path, "{\"traceEvents\": [\n" + events + "\n]}\n");
}

}  // namespace catena::bench
