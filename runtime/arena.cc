#include "runtime/arena.h"

#include <algorithm>

namespace catena {
namespace {

constexpr std::size_t kAlignment = 64;
constexpr std::size_t kFirstBlock = std::size_t{1} << 20;

std::size_t aligned(std::size_t bytes) {
  return (std::max<std::size_t>(bytes, 1) + kAlignment - 1) / kAlignment *
         kAlignment;
}

}  // namespace

Arena::~Arena() {
  for (const Block& block : blocks_) {
    source_->release(block.data, block.bytes);
  }
}

void* Arena::allocate_bytes(std::size_t bytes) {
  bytes = aligned(bytes);
  while (top_.block < blocks_.size() &&
         top_.used + bytes > blocks_[top_.block].bytes) {
    ++top_.block;
    top_.used = 0;
  }
  if (top_.block == blocks_.size()) {
    const std::size_t last =
        blocks_.empty() ? kFirstBlock / 2 : blocks_.back().bytes;
    const std::size_t size = std::max(bytes, 2 * last);
    blocks_.push_back({source_->allocate(size), size});
  }
  void* data = static_cast<char*>(blocks_[top_.block].data) + top_.used;
  top_.used += bytes;
  top_.total += bytes;
  peak_ = std::max(peak_, top_.total);
  return data;
}

TensorView Arena::allocate(DType dtype, const Shape& shape) {
  const auto bytes =
      static_cast<std::size_t>(shape.elements() * size_bytes(dtype));
  return {allocate_bytes(bytes), dtype, shape};
}

void Arena::rewind(const Mark& mark) {
  CATENA_CHECK(mark.total <= top_.total, "[arena] rewind forward");
  top_ = mark;
}

std::size_t Arena::held_bytes() const {
  std::size_t sum = 0;
  for (const Block& block : blocks_) sum += block.bytes;
  return sum;
}

void Arena::reserve(std::size_t bytes) {
  CATENA_CHECK(top_.total == 0, "[arena] reserve with {} bytes alive",
               top_.total);
  top_ = {};
  bytes = std::max(aligned(bytes), peak_);
  if (blocks_.size() == 1 && blocks_[0].bytes >= bytes) return;
  for (const Block& block : blocks_) {
    source_->release(block.data, block.bytes);
  }
  blocks_.clear();
  blocks_.push_back({source_->allocate(bytes), bytes});
}

}  // namespace catena
