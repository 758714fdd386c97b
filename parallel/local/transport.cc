#include "parallel/local/transport.h"

#include <exception>
#include <limits>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "runtime/base/error.h"

namespace catena::local {

class World {
 public:
  explicit World(int size)
      : size_(size),
        channels_(static_cast<std::size_t>(size * size * Transport::kLanes)),
        records_(static_cast<std::size_t>(size)) {}

  [[nodiscard]] int size() const { return size_; }
  [[nodiscard]] Channel& channel(int from, int to, int lane) {
    return channels_[static_cast<std::size_t>(
        (from * size_ + to) * Transport::kLanes + lane)];
  }
  [[nodiscard]] RankRecord& record(int rank) {
    return records_[static_cast<std::size_t>(rank)];
  }
  [[nodiscard]] std::atomic<std::int32_t>& first_failed() {
    return first_failed_;
  }

 private:
  int size_;
  std::vector<Channel> channels_;
  std::vector<RankRecord> records_;
  std::atomic<std::int32_t> first_failed_ = -1;
};

namespace {

constexpr std::size_t kAlignment = 64;

class LocalTransport final : public SlotTransport {
 public:
  LocalTransport(std::shared_ptr<World> world, int rank)
      : SlotTransport(rank, world->size(),
                      Duration(std::numeric_limits<double>::infinity())),
        world_(std::move(world)) {}
  ~LocalTransport() override { leave(); }

  [[nodiscard]] std::string_view description() const override {
    return "threads of one process";
  }
  [[nodiscard]] void* allocate(std::size_t bytes) override {
    return ::operator new(bytes, std::align_val_t(kAlignment));
  }
  void release(void* data, std::size_t) noexcept override {
    ::operator delete(data, std::align_val_t(kAlignment));
  }

 protected:
  [[nodiscard]] Channel& channel(int from, int to, int lane) override {
    return world_->channel(from, to, lane);
  }
  [[nodiscard]] RankRecord& record(int rank) override {
    return world_->record(rank);
  }
  [[nodiscard]] std::atomic<std::int32_t>& first_failed() const override {
    return world_->first_failed();
  }
  [[nodiscard]] Address address(const void* data, std::int64_t) const override {
    return reinterpret_cast<Address>(data);
  }
  [[nodiscard]] std::byte* place(Address address) const override {
    return reinterpret_cast<std::byte*>(address);
  }
  [[nodiscard]] bool died(int) override { return false; }

 private:
  std::shared_ptr<World> world_;
};

std::string text_of(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const std::exception& exception) {
    return exception.what();
  } catch (...) {
    return "an exception without text";
  }
}

}  // namespace

std::shared_ptr<World> make_world(int size) {
  CATENA_CHECK(size > 0, "[local] a world of {} ranks", size);
  return std::make_shared<World>(size);
}

std::unique_ptr<SlotTransport> join(std::shared_ptr<World> world, int rank) {
  CATENA_CHECK(rank >= 0 && rank < world->size(), "[local] rank {} of {}", rank,
               world->size());
  return std::make_unique<LocalTransport>(std::move(world), rank);
}

void run_ranks(int size, const std::function<void(Transport&)>& work) {
  const auto world = make_world(size);
  std::exception_ptr first;
  const auto run = [&](int rank) {
    const auto transport = join(world, rank);
    try {
      work(*transport);
    } catch (...) {
      const std::exception_ptr error = std::current_exception();
      transport->abandon(text_of(error));
      if (transport->failed_rank() == rank) first = error;
    }
  };
  {
    std::vector<std::jthread> threads;
    for (int rank = 1; rank < size; ++rank) threads.emplace_back(run, rank);
    run(0);
  }
  if (first) std::rethrow_exception(first);
}

}  // namespace catena::local
