#include "parallel/shared_memory/transport.h"

#include <sys/mman.h>

#include <filesystem>

#include "parallel/shared_memory/name.h"
#include "parallel/shared_memory/node.h"
#include "parallel/shared_memory/pool.h"
#include "runtime/base/error.h"

namespace catena::shared_memory {
namespace {

/// An address is a place among the members and an offset in its segment.
constexpr int kOffsetBits = 48;
constexpr Address kOffset = (Address{1} << kOffsetBits) - 1;
/// Memory of a segment that is gone is used by nothing else, so a rank that is
/// stopped while it copies can be left behind.
constexpr SlotTransport::Duration kPatience(1.0);

class SharedMemoryTransport final : public SlotTransport {
 public:
  SharedMemoryTransport(Store& store, int rank, int size,
                        const Options& options)
      : SlotTransport(rank, size, kPatience),
        node_(store, rank, size, options),
        pool_(node_.own().control().pool_bytes),
        died_(static_cast<std::size_t>(size)) {}
  ~SharedMemoryTransport() override { leave(); }

  [[nodiscard]] std::string_view description() const override {
    return "shared memory";
  }

  [[nodiscard]] void* allocate(std::size_t bytes) override {
    const auto begin = pool_.take(bytes);
    if (!begin) {
      fail(ErrorKind::kDoesNotFit,
           "[shared memory] {} bytes do not fit beside {} of {}", bytes,
           pool_.taken(), node_.own().control().pool_bytes);
    }
    try {
      node_.own().reserve(pool_.end());
    } catch (...) {
      pool_.give_back(*begin, bytes);
      throw;
    }
    return node_.own().pool() + *begin;
  }
  void release(void* data, std::size_t bytes) noexcept override {
    pool_.give_back(static_cast<std::size_t>(static_cast<std::byte*>(data) -
                                             node_.own().pool()),
                    bytes);
  }

 protected:
  [[nodiscard]] Channel& channel(int from, int to, int lane) override {
    CATENA_CHECK(node_.place(from) >= 0 && node_.place(to) >= 0,
                 "[shared memory] a message from rank {} to rank {}, which is "
                 "on another node",
                 from, to);
    return node_.segment(node_.place(from)).channel(node_.place(to), lane);
  }
  [[nodiscard]] RankRecord& record(int rank) override {
    return node_.segment(node_.place(rank)).control().record;
  }
  [[nodiscard]] std::atomic<std::int32_t>& first_failed() const override {
    return node_.segment(0).control().first_failed;
  }
  [[nodiscard]] Address address(const void* data,
                                std::int64_t bytes) const override {
    const Segment& own = node_.own();
    const auto* const begin = static_cast<const std::byte*>(data);
    if (begin < own.pool() || begin + bytes > own.data() + own.bytes()) {
      return kPrivate;
    }
    return static_cast<Address>(node_.place(rank())) << kOffsetBits |
           static_cast<Address>(begin - own.data());
  }
  [[nodiscard]] std::byte* place(Address address) const override {
    return node_.segment(static_cast<int>(address >> kOffsetBits)).data() +
           (address & kOffset);
  }
  [[nodiscard]] bool died(int rank) override {
    char& died = died_[static_cast<std::size_t>(rank)];
    if (died == 0 &&
        node_.segment(node_.place(rank)).control().life.owner_died()) {
      died = 1;
    }
    return died != 0;
  }

 private:
  Node node_;
  Pool pool_;
  std::vector<char> died_;
};

}  // namespace

std::unique_ptr<SlotTransport> join(Store& store, int rank, int size,
                                    const Options& options) {
  return std::make_unique<SharedMemoryTransport>(store, rank, size, options);
}

std::vector<std::string> sweep(std::string_view token) {
  const std::string prefix = name_prefix(token).substr(1);
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry :
       std::filesystem::directory_iterator(kFolder, error)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with(prefix)) names.push_back(name);
  }
  if (error) {
    fail(ErrorKind::kIo, "[shared memory] {}: {}", kFolder, error.message());
  }
  for (const std::string& name : names) shm_unlink(("/" + name).c_str());
  return names;
}

}  // namespace catena::shared_memory
