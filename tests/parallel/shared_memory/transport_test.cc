#include "parallel/shared_memory/transport.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cstring>
#include <random>

#include "parallel/communicator.h"
#include "parallel/shared_memory/transport.h"
#include "tests/parallel/collective_calls.h"
#include "tests/parallel/processes.h"
#include "tests/support/private_disk.h"

/// What only processes can show; the suite that holds for all transports is
/// communicator_test.cc.

namespace catena::testing {
namespace {

using ::testing::HasSubstr;

constexpr Communicator::Deadline kLong(60);

/// Memory of the transport, or of the heap.
class Memory {
 public:
  Memory(Transport& transport, bool registered, std::int64_t bytes)
      : transport_(registered ? &transport : nullptr),
        heap_(registered ? 0 : static_cast<std::size_t>(bytes)),
        bytes_(bytes),
        data_(registered ? static_cast<std::byte*>(transport.allocate(
                               static_cast<std::size_t>(bytes)))
                         : heap_.data()) {}
  ~Memory() {
    if (transport_ == nullptr) return;
    transport_->release(data_, static_cast<std::size_t>(bytes_));
  }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  [[nodiscard]] std::span<std::byte> bytes() const {
    return {data_, static_cast<std::size_t>(bytes_)};
  }
  [[nodiscard]] Communicator::Part part() const { return {data_, bytes_}; }
  void fill(int seed) const {
    std::size_t i = 0;
    for (std::byte& byte : bytes()) byte = value(seed, i++);
  }
  [[nodiscard]] bool holds(int seed) const {
    std::size_t i = 0;
    return std::all_of(bytes().begin(), bytes().end(), [&](std::byte byte) {
      return byte == value(seed, i++);
    });
  }

 private:
  static std::byte value(int seed, std::size_t i) {
    return static_cast<std::byte>(
        (static_cast<std::size_t>(seed) * 131 + i * 7 + i / 251) & 0xff);
  }
  Transport* transport_;
  std::vector<std::byte> heap_;
  std::int64_t bytes_;
  std::byte* data_;
};

/// What rank `from` sends to the other of two: not the same both ways.
std::int64_t length(int from, std::int64_t bytes) {
  return from == 0 ? bytes : bytes - bytes / 3;
}

/// One side registered or not, the other registered or not, as `kinds` says.
void exchange_once(Communicator& all, std::int64_t bytes, unsigned kinds) {
  const int me = all.rank(), other = 1 - me;
  const auto registered = [&](int rank, bool sends) {
    return (kinds >> (rank * 2 + (sends ? 1 : 0)) & 1) != 0;
  };
  const Memory out(all.transport(), registered(me, true), length(me, bytes));
  const Memory in(all.transport(), registered(me, false), length(other, bytes));
  out.fill(me);
  std::vector<Communicator::Part> send(2), receive(2);
  send[static_cast<std::size_t>(other)] = out.part();
  receive[static_cast<std::size_t>(other)] = in.part();
  wait(all.all_to_all_v({}, send, receive));
  EXPECT_TRUE(in.holds(other)) << bytes << " bytes, memory " << kinds;
}

TEST(SharedMemoryTest, MessagesOfAnySizeInAnyMemoryArrive) {
  Processes processes(2, [](Transport& transport) {
    Communicator all(transport, kLong);
    for (const std::int64_t bytes : {0, 1, 63, 4096, 4097, 8191, 8193, 20000,
                                     65536, 262144, 262145, 1000003}) {
      for (unsigned kinds = 0; kinds < 16; ++kinds) {
        exchange_once(all, bytes, kinds);
      }
    }
    for (const unsigned kinds : {0U, 5U, 10U, 15U}) {
      exchange_once(all, std::int64_t{64} << 20, kinds);
    }
  });
  for (const Outcome& outcome : processes.wait_for_all()) {
    EXPECT_FALSE(outcome.threw) << outcome.text;
  }
}

TEST(SharedMemoryTest, ManyMessagesOfAllKindsKeepTheirOrder) {
  Processes processes(2, [](Transport& transport) {
    constexpr int kMessages = 200;
    std::mt19937 random(4);  // the same on both sides
    std::vector<std::unique_ptr<Memory>> memory;
    std::int64_t open = 0;
    const bool sends = transport.rank() == 0;
    for (int i = 0; i < kMessages; ++i) {
      const auto bytes = static_cast<std::int64_t>(
          random() % 4 == 0 ? random() % 500000 : random() % 5000);
      const unsigned kinds = random() % 4;
      memory.push_back(std::make_unique<Memory>(
          transport, (kinds >> (sends ? 1 : 0) & 1) != 0, bytes));
      const Memory& m = *memory.back();
      if (sends) {
        m.fill(i);
        transport.send(1, 0, m.part().data, bytes, 0, open);
      } else {
        transport.receive(0, 0, m.part().data, bytes, 0, open);
      }
      if (random() % 8 == 0) transport.progress();
    }
    while (open > 0) transport.progress();
    for (int i = 0; !sends && i < kMessages; ++i) {
      EXPECT_TRUE(memory[static_cast<std::size_t>(i)]->holds(i)) << i;
    }
  });
  for (const Outcome& outcome : processes.wait_for_all()) {
    EXPECT_FALSE(outcome.threw) << outcome.text;
  }
}

TEST(SharedMemoryTest, AReceiverGoesOnWithoutASenderThatIsBusy) {
  Processes processes(2, [&](Transport& transport) {
    FileStore& store = processes.store();
    const Memory small(transport, false, 4096);
    const Memory large(transport, true, 1000000);
    std::int64_t open = 0;
    if (transport.rank() == 0) {
      small.fill(1);
      large.fill(2);
      transport.send(1, 0, small.part().data, 4096, 0, open);
      transport.send(1, 0, large.part().data, 1000000, 0, open);
      small.fill(3);  // it has been copied aside
      store.set("sent", "");
      static_cast<void>(store.get("received", kLong));
    } else {
      static_cast<void>(store.get("sent", kLong));
      transport.receive(0, 0, small.part().data, 4096, 0, open);
      transport.receive(0, 0, large.part().data, 1000000, 0, open);
      for (int i = 0; i < 3; ++i) transport.progress();
      EXPECT_EQ(open, 0);
      EXPECT_TRUE(small.holds(1));
      EXPECT_TRUE(large.holds(2));
      store.set("received", "");
    }
    while (open > 0) transport.progress();
  });
  for (const Outcome& outcome : processes.wait_for_all()) {
    EXPECT_FALSE(outcome.threw) << outcome.text;
  }
}

TEST(SharedMemoryTest, PoolsHaveABound) {
  const auto work = [](Transport& transport) {
    constexpr std::size_t kHalf = std::size_t{1} << 19;
    void* const first = transport.allocate(kHalf);
    void* const second = transport.allocate(kHalf);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(first) % 64, 0U);
    std::memset(first, 1, kHalf);
    std::memset(second, 2, kHalf);
    transport.release(first, kHalf);
    EXPECT_EQ(transport.allocate(kHalf - 1), first);
    static_cast<void>(transport.allocate(1));
  };
  Processes processes(1, work,
                      over_shared_memory({.pool_bytes = std::size_t{1} << 20}));
  const Outcome outcome = processes.wait_for_all().front();
  EXPECT_EQ(outcome.kind, ErrorKind::kDoesNotFit);
  EXPECT_THAT(outcome.text, HasSubstr("1 bytes do not fit beside 1048576"));
}

}  // namespace
}  // namespace catena::testing
