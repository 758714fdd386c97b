#include "parallel/pipeline.h"

#include <algorithm>
#include <chrono>
#include <thread>

namespace catena {
namespace {

constexpr std::size_t kFrameAlignment = 16;
constexpr std::size_t kFirstFrameBlock = 16 * 1024;
// A frame is preceded by the address of the memory it came from.
constexpr std::size_t kHeader = kFrameAlignment;

std::size_t rounded(std::size_t bytes) {
  return (bytes + kFrameAlignment - 1) / kFrameAlignment * kFrameAlignment;
}

}  // namespace

void* FrameMemory::allocate(std::size_t bytes) {
  bytes = rounded(bytes);
  if (blocks_.empty()) {
    blocks_.push_back(
        {std::make_unique<std::byte[]>(kFirstFrameBlock), kFirstFrameBlock, 0});
  }
  while (blocks_[top_].used + bytes > blocks_[top_].bytes) {
    if (top_ + 1 == blocks_.size()) {
      const std::size_t size = std::max(bytes, 2 * blocks_[top_].bytes);
      blocks_.push_back({std::make_unique<std::byte[]>(size), size, 0});
    }
    ++top_;
  }
  Block& block = blocks_[top_];
  void* frame = block.data.get() + block.used;
  block.used += bytes;
  return frame;
}

void FrameMemory::release(std::size_t bytes) {
  while (blocks_[top_].used == 0) --top_;
  blocks_[top_].used -= rounded(bytes);
}

void* Task::promise_type::allocate_frame(FrameMemory* memory,
                                         std::size_t bytes) {
  auto* place = static_cast<std::byte*>(memory != nullptr
                                            ? memory->allocate(bytes + kHeader)
                                            : ::operator new(bytes + kHeader));
  *reinterpret_cast<FrameMemory**>(place) = memory;
  return place + kHeader;
}

void Task::promise_type::release_frame(void* frame, std::size_t bytes) {
  std::byte* place = static_cast<std::byte*>(frame) - kHeader;
  FrameMemory* memory = *reinterpret_cast<FrameMemory**>(place);
  if (memory != nullptr) {
    memory->release(bytes + kHeader);
  } else {
    ::operator delete(place);
  }
}

void wait(const Pending& pending) {
  // Some 0.1 ms of polls: longer than most exchanges take, and short beside
  // what another program on this core keeps it for once it has been given.
  constexpr int kPolls = 2000, kYields = 4000;
  constexpr std::chrono::microseconds kNap(50);
  for (int turn = 0; !pending.ready(); ++turn) {
    if (turn < kPolls) continue;
    if (turn < kYields) {
      std::this_thread::yield();
    } else {
      std::this_thread::sleep_for(kNap);
    }
  }
}

void Pipeline::run(std::span<Task> tasks) {
  strands_.assign(tasks.size(), {});
  for (std::size_t i = 0; i < tasks.size(); ++i) {
    tasks[i].handle_.promise().strand = &strands_[i];
    strands_[i].resume = tasks[i].handle_;
  }
  for (std::size_t running = tasks.size(); running > 0;) {
    for (std::size_t i = 0; i < tasks.size(); ++i) {
      if (tasks[i].handle_.done()) continue;
      wait(strands_[i].waiting);
      strands_[i].resume.resume();
      if (!tasks[i].handle_.done()) continue;
      --running;
      if (auto& error = tasks[i].handle_.promise().error) {
        std::rethrow_exception(std::exchange(error, {}));
      }
    }
  }
}

}  // namespace catena
