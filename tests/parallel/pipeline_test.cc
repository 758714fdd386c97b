#include "parallel/pipeline.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/support/allocation_counter.h"

namespace catena {
namespace {

/// Ready after so many polls.
class Countdown final : public Operation {
 public:
  explicit Countdown(int polls) : left_(polls) {}
  bool poll(std::uint64_t) override {
    ++polls;
    return left_ == 0 || --left_ == 0;
  }
  int polls = 0;

 private:
  int left_;
};

class Broken final : public Operation {
 public:
  bool poll(std::uint64_t) override {
    throw std::runtime_error("peer 3 is gone");
  }
};

using Log = std::string;

/// Writes its letter, waits, and again, `turns` times.
Task turns(FrameMemory&, char letter, int count, Log& log) {
  for (int i = 0; i < count; ++i) {
    log += letter;
    co_await Pending();
  }
}

TEST(PipelineTest, RunsNothingAndOne) {
  Pipeline pipeline;
  pipeline.run({});
  FrameMemory memory;
  Log log;
  Task task = turns(memory, 'a', 3, log);
  EXPECT_EQ(log, "");  // lazy
  pipeline.run({&task, 1});
  EXPECT_EQ(log, "aaa");
}

TEST(PipelineTest, RotatesStrictlyThoughEverythingIsReady) {
  FrameMemory memory[3];
  Log log;
  Task tasks[] = {turns(memory[0], 'a', 3, log), turns(memory[1], 'b', 1, log),
                  turns(memory[2], 'c', 4, log)};
  Pipeline pipeline;
  pipeline.run(tasks);
  EXPECT_EQ(log, "abcacacc");
}

Task waits(FrameMemory&, char letter, std::span<Countdown> operations,
           Log& log) {
  for (Countdown& operation : operations) {
    log += letter;
    co_await Pending(operation, 0);
  }
  log += static_cast<char>(letter - 'a' + 'A');
}

TEST(PipelineTest, OrderDoesNotDependOnHowLongOperationsTake) {
  for (const int slow : {1, 2, 50}) {
    FrameMemory memory[2];
    Log log;
    Countdown first[] = {Countdown(slow), Countdown(1), Countdown(7)};
    Countdown second[] = {Countdown(1), Countdown(3 * slow)};
    Task tasks[] = {waits(memory[0], 'a', first, log),
                    waits(memory[1], 'b', second, log)};
    Pipeline pipeline;
    pipeline.run(tasks);
    EXPECT_EQ(log, "ababaBA");
    EXPECT_EQ(first[0].polls, slow);
    EXPECT_EQ(first[2].polls, 7);
    EXPECT_EQ(second[1].polls, 3 * slow);
  }
}

Task inner(FrameMemory& memory, char letter, int depth, Log& log) {
  log += letter;
  co_await Pending();
  if (depth > 0) {
    co_await inner(memory, letter, depth - 1, log);
    log += '.';
    co_await inner(memory, letter, 0, log);
  }
}

TEST(PipelineTest, NestedTasksTakeTheirTurnsAsOne) {
  FrameMemory memory[2];
  Log log;
  Task tasks[] = {inner(memory[0], 'a', 2, log), inner(memory[1], 'b', 1, log)};
  Pipeline pipeline;
  pipeline.run(tasks);
  EXPECT_EQ(log,
            "abab"
            "a.b"
            ".a"
            ".a");
}

TEST(PipelineTest, CanBeUsedAgain) {
  FrameMemory memory;
  Log log;
  Pipeline pipeline;
  for (int i = 0; i < 3; ++i) {
    Task task = turns(memory, 'a', 2, log);
    pipeline.run({&task, 1});
  }
  EXPECT_EQ(log, "aaaaaa");
}

Task fails(FrameMemory&, int after) {
  for (int i = 0; i < after; ++i) co_await Pending();
  throw std::runtime_error("broken");
}

/// Says when it dies.
struct Guard {
  Log* log;
  ~Guard() { *log += '~'; }
};

Task guards(FrameMemory& memory, int depth, int after, Log& log) {
  const Guard guard{&log};
  if (depth == 0) {
    co_await fails(memory, after);
  } else {
    co_await guards(memory, depth - 1, after, log);
  }
  log += '!';
}

TEST(PipelineTest, AnExceptionUnwindsEveryNestedTask) {
  for (const int after : {0, 1, 3}) {
    FrameMemory memory;
    Log log;
    Task task = guards(memory, 2, after, log);
    Pipeline pipeline;
    try {
      pipeline.run({&task, 1});
      FAIL() << "no exception";
    } catch (const std::runtime_error& error) {
      EXPECT_STREQ(error.what(), "broken");
    }
    EXPECT_EQ(log, "~~~");
  }
}

Task catches(FrameMemory& memory, Log& log) {
  bool caught = false;
  try {
    co_await fails(memory, 1);
  } catch (const std::runtime_error&) {
    caught = true;
  }
  co_await Pending();
  log += caught ? "caught" : "missed";
}

TEST(PipelineTest, AnOuterTaskMayCatch) {
  FrameMemory memory;
  Log log;
  Task task = catches(memory, log);
  Pipeline pipeline;
  pipeline.run({&task, 1});
  EXPECT_EQ(log, "caught");
}

Task guarded_turns(FrameMemory& memory, char letter, int depth, Log& log) {
  const Guard guard{&log};
  if (depth > 0) co_await guarded_turns(memory, letter, depth - 1, log);
  co_await turns(memory, letter, 5, log);
}

TEST(PipelineTest, TasksLeftSuspendedAreDestroyedByTheirOwner) {
  FrameMemory memory[3];
  Log log;
  Pipeline pipeline;
  {
    Task tasks[] = {guarded_turns(memory[0], 'a', 3, log), fails(memory[1], 2),
                    guarded_turns(memory[2], 'c', 3, log)};
    EXPECT_THROW(pipeline.run(tasks), std::runtime_error);
    EXPECT_EQ(log, "acaca");
  }
  EXPECT_EQ(log, "acaca~~~~~~~~");
  // Memory and pipeline are as good as new.
  Task task = turns(memory[0], 'd', 2, log = "");
  pipeline.run({&task, 1});
  EXPECT_EQ(log, "dd");
}

Task waits_for(FrameMemory&, Operation& operation) {
  co_await Pending(operation, 0);
}

TEST(PipelineTest, AFailedOperationIsThrownByRun) {
  FrameMemory memory;
  Broken broken;
  Task task = waits_for(memory, broken);
  Pipeline pipeline;
  EXPECT_THROW(pipeline.run({&task, 1}), std::runtime_error);
}

/// As a chunk does it: memory is a base class, and not the first argument.
struct ChunkLike : FrameMemory {
  int visits = 0;
};
struct LayerLike {
  Task forward(int depth, ChunkLike& chunk) const {
    ++chunk.visits;
    co_await Pending();
    if (depth > 0) {
      co_await forward(depth - 1, chunk);
      co_await forward(depth - 1, chunk);
    }
  }
};

TEST(PipelineMemoryTest, NothingIsAllocatedAfterTheFirstRun) {
  const LayerLike layer;
  ChunkLike chunks[3];
  Pipeline pipeline;
  const auto step = [&] {
    Task tasks[] = {layer.forward(9, chunks[0]), layer.forward(3, chunks[1]),
                    layer.forward(7, chunks[2])};
    pipeline.run(tasks);
  };
  step();
  const std::size_t before = testing::allocation_count();
  for (int i = 0; i < 5; ++i) step();
  EXPECT_EQ(testing::allocation_count(), before);
  EXPECT_EQ(chunks[0].visits, 6 * 1023);
}

Task without_memory(int& visits) {
  ++visits;
  co_await Pending();
}

TEST(PipelineMemoryTest, ATaskWithoutMemoryTakesItsFrameFromTheHeap) {
  int visits = 0;
  const std::size_t before = testing::allocation_count();
  Task task = without_memory(visits);
  EXPECT_EQ(testing::allocation_count(), before + 1);
  Pipeline pipeline;
  pipeline.run({&task, 1});
  EXPECT_EQ(visits, 1);
}

TEST(FrameMemoryTest, IsAStackOfAlignedFrames) {
  FrameMemory memory;
  const std::size_t sizes[] = {1, 17, 5000, 16, 20000, 100000, 3};
  std::vector<std::byte*> frames;
  for (const std::size_t size : sizes) {
    frames.push_back(static_cast<std::byte*>(memory.allocate(size)));
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(frames.back()) % 16, 0u);
    std::fill_n(frames.back(), size, std::byte(frames.size()));
  }
  for (std::size_t i = 0; i < frames.size(); ++i) {
    for (std::size_t j = 0; j < sizes[i]; ++j) {
      ASSERT_EQ(frames[i][j], std::byte(i + 1)) << "frame " << i;
    }
  }
  for (std::size_t i = std::size(sizes); i-- > 0;) memory.release(sizes[i]);
  const std::size_t before = testing::allocation_count();
  for (std::size_t i = 0; i < std::size(sizes); ++i) {
    EXPECT_EQ(memory.allocate(sizes[i]), frames[i]);
  }
  EXPECT_EQ(testing::allocation_count(), before);
}

}  // namespace
}  // namespace catena
