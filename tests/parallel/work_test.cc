#include "parallel/work.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "parallel/local/transport.h"
#include "runtime/base/error.h"

namespace catena {
namespace {

using namespace std::chrono_literals;

TEST(WorkTest, MayTakeLongerThanADeadline) {
  for (const int size : {1, 2, 3, 4, 7, 8}) {
    std::atomic<int> done = 0;
    local::run_ranks(size, [&](Transport& transport) {
      Communicator all(transport, 200ms);
      const bool works = transport.rank() % 3 == size % 3 || size == 1;
      const auto work = [&] {
        std::this_thread::sleep_for(500ms);
        ++done;
      };
      wait_for_work(all, works ? work : Work());
      EXPECT_EQ(done, size == 1 ? 1 : size / 3) << size;
    });
  }
}

TEST(WorkTest, WhatItThrowsIsWhatAllHearOf) {
  try {
    local::run_ranks(3, [](Transport& transport) {
      Communicator all(transport, 60s);
      const auto work = [] { fail(ErrorKind::kData, "a bad shard"); };
      wait_for_work(all, transport.rank() == 1 ? work : Work());
    });
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kData);
    EXPECT_STREQ(error.what(), "a bad shard");
  }
}

}  // namespace
}  // namespace catena
