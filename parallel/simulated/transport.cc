#include "parallel/simulated/transport.h"

#include <algorithm>
#include <deque>
#include <string>

#include "runtime/base/error.h"

namespace catena::simulated {
namespace {

class SimulatedTransport final : public Transport {
 public:
  SimulatedTransport(Transport& inner, std::unique_ptr<Transport> owned,
                     const Link& link)
      : inner_(&inner),
        owned_(std::move(owned)),
        link_(link),
        description_(fmt::format(
            "{}, made {:.3g} GB/s and {:.3g} us slow", inner.description(),
            link.bytes_per_second * 1e-9, link.latency_seconds * 1e6)) {}

  [[nodiscard]] int rank() const override { return inner_->rank(); }
  [[nodiscard]] int size() const override { return inner_->size(); }
  [[nodiscard]] std::string_view description() const override {
    return description_;
  }
  [[nodiscard]] bool carries() const override { return inner_->carries(); }
  [[nodiscard]] std::uint64_t node() const override { return inner_->node(); }

  void send(int to, int lane, const void* data, std::int64_t bytes,
            std::uint64_t tag, std::int64_t& open) override {
    free_ = std::max(free_, now()) + link_.seconds(bytes);
    ++open;
    held_.push_back(
        {free_ + link_.latency_seconds, to, lane, data, bytes, tag, &open});
  }
  void receive(int from, int lane, void* data, std::int64_t bytes,
               std::uint64_t tag, std::int64_t& open) override {
    inner_->receive(from, lane, data, bytes, tag, open);
  }
  void progress() override {
    while (!held_.empty() && held_.front().due <= now()) {
      const Message message = held_.front();
      held_.pop_front();
      inner_->send(message.to, message.lane, message.data, message.bytes,
                   message.tag, *message.open);
      --*message.open;
    }
    inner_->progress();
  }
  void abandon(std::string_view why) noexcept override { inner_->abandon(why); }
  [[nodiscard]] bool abandons_by_exit() const override {
    return inner_->abandons_by_exit();
  }
  [[nodiscard]] void* allocate(std::size_t bytes) override {
    return inner_->allocate(bytes);
  }
  void release(void* data, std::size_t bytes) noexcept override {
    inner_->release(data, bytes);
  }

 private:
  struct Message {
    double due;
    int to, lane;
    const void* data;
    std::int64_t bytes;
    std::uint64_t tag;
    std::int64_t* open;
  };

  Transport* inner_;
  std::unique_ptr<Transport> owned_;
  Link link_;
  std::string description_;
  double free_ = 0;           ///< until when the link is taken
  std::deque<Message> held_;  ///< in the order in which they are due
};

}  // namespace

std::unique_ptr<Transport> make_transport(std::unique_ptr<Transport> inner,
                                          const Link& link) {
  Transport& borrowed = *inner;
  return std::make_unique<SimulatedTransport>(borrowed, std::move(inner), link);
}

std::unique_ptr<Transport> make_transport(Transport& inner, const Link& link) {
  return std::make_unique<SimulatedTransport>(inner, nullptr, link);
}

}  // namespace catena::simulated
