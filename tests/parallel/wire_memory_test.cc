#include "parallel/wire_memory.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>

#include "parallel/file_store.h"
#include "parallel/meta/transport.h"
#include "parallel/shared_memory/transport.h"

namespace catena::testing {
namespace {

constexpr std::size_t kPool = std::size_t{1} << 20;

// One rank whose pool has room for kPool.
TEST(WireMemoryTest, IsTheTransportsWhileThatHasRoom) {
  const auto folder = std::filesystem::path(::testing::TempDir()) /
                      ("wire-memory-" + std::to_string(::getpid()));
  FileStore store(folder);
  const auto transport = shared_memory::join(
      store, 0, 1,
      {.token = "wire" + std::to_string(::getpid()), .pool_bytes = kPool});
  const auto backend = make_cpu_backend(1);
  WireMemory memory(*transport, *backend);

  void* const first = memory.allocate(kPool / 2);
  EXPECT_EQ(backend->memory().bytes, 0);
  ::testing::internal::CaptureStderr();
  void* const second = memory.allocate(kPool);
  void* const third = memory.allocate(2 * kPool);
  const std::string said = ::testing::internal::GetCapturedStderr();
  EXPECT_NE(said.find("messages go through a copy"), std::string::npos);
  EXPECT_EQ(said.find("messages go", said.find("messages go") + 1),
            std::string::npos)
      << said;
  EXPECT_EQ(backend->memory().bytes, 3 * static_cast<std::int64_t>(kPool));
  std::memset(second, 1, kPool);

  memory.release(first, kPool / 2);
  memory.release(second, kPool);
  memory.release(third, 2 * kPool);
  EXPECT_EQ(backend->memory().bytes, 0);
  void* const again = memory.allocate(kPool);
  EXPECT_EQ(backend->memory().bytes, 0);
  memory.release(again, kPool);
  std::filesystem::remove_all(folder);
}

TEST(WireMemoryTest, IsTheBackendsOnMeta) {
  const auto transport = make_meta_transport(0, 2);
  const auto backend = make_meta_backend();
  WireMemory memory(*transport, *backend);
  void* const data = memory.allocate(kPool);
  EXPECT_EQ(backend->memory().bytes, static_cast<std::int64_t>(kPool));
  memory.release(data, kPool);
  EXPECT_EQ(backend->memory().bytes, 0);
}

}  // namespace
}  // namespace catena::testing
