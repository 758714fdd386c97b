#include "parallel/shared_memory/node.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <thread>

#include "parallel/shared_memory/name.h"
#include "runtime/base/error.h"

namespace catena::shared_memory {
namespace {

using Clock = std::chrono::steady_clock;

/// Before the reason, where a rank has no segment to name.
constexpr char kFailed = '!';

void write(RankRecord& record, std::string_view text) {
  record.text_bytes =
      static_cast<std::uint32_t>(std::min(text.size(), RankRecord::kTextBytes));
  std::memcpy(record.text, text.data(), record.text_bytes);
  record.ended.store(1, std::memory_order_release);
}

}  // namespace

Node::Node(Store& store, int rank, int size, const Options& options)
    : token_(options.token),
      members_(options.members),
      places_(static_cast<std::size_t>(size), -1),
      begin_(Clock::now()),
      deadline_(options.deadline),
      pool_bytes_(options.pool_bytes),
      rank_(rank) {
  find_places(size);
  create_own(store);
  try {
    open_others(names_of_all(store));
    wait_for_others();
  } catch (const Error& error) {
    write(own().control().record, error.what());
    throw;
  }
  own().unlink();
}

void Node::find_places(int size) {
  if (members_.empty()) {
    members_.resize(static_cast<std::size_t>(size));
    std::iota(members_.begin(), members_.end(), 0);
  }
  for (std::size_t i = 0; i < members_.size(); ++i) {
    CATENA_CHECK(members_[i] >= 0 && members_[i] < size &&
                     (i == 0 || members_[i] > members_[i - 1]),
                 "[shared memory] member {} of {} ranks", members_[i], size);
    places_[static_cast<std::size_t>(members_[i])] = static_cast<int>(i);
  }
  CATENA_CHECK(rank_ >= 0 && rank_ < size && place(rank_) >= 0,
               "[shared memory] rank {} is not among the members", rank_);
  own_ = place(rank_);
}

void Node::create_own(Store& store) {
  segments_.resize(members_.size());
  try {
    sweep_abandoned(token_);
    if (pool_bytes_ == 0) pool_bytes_ = capacity_bytes();
    const std::string name = fmt::format("{}{}", name_prefix(token_), rank_);
    own() =
        Segment::create(name, static_cast<int>(members_.size()), pool_bytes_);
    store.set(key(rank_), name);
  } catch (const Error& error) {
    store.set(key(rank_), kFailed + std::string(error.what()));
    throw;
  }
}

std::string Node::key(int rank) const {
  return fmt::format("{}/shared-memory/{}", token_, rank);
}

std::chrono::duration<double> Node::left() const {
  const std::chrono::duration<double> left =
      deadline_ - (Clock::now() - begin_);
  return std::max(left, left.zero());
}

/// All names before any is opened: so everybody hears of a rank that has none,
/// and not of those that leave on its account.
std::vector<std::string> Node::names_of_all(Store& store) const {
  std::vector<std::string> names;
  for (const int rank : members_) {
    try {
      names.push_back(store.get(key(rank), left()));
    } catch (const Error& error) {
      fail(error.kind(), "rank {} has waited {:.3g} s for rank {} to join: {}",
           rank_, deadline_.count(), rank, error.what());
    }
    if (!names.back().starts_with(kFailed)) continue;
    fail(ErrorKind::kCommunication, "rank {} could not join: {}", rank,
         names.back().substr(1));
  }
  return names;
}

void Node::open_others(const std::vector<std::string>& names) {
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (members_[i] == rank_) continue;
    try {
      segments_[i] = Segment::open(names[i], static_cast<int>(members_.size()),
                                   pool_bytes_);
    } catch (const Error& error) {
      fail(error.kind(), "rank {} cannot open the memory of rank {}: {}", rank_,
           members_[i], error.what());
    }
  }
  own().control().joined.store(1, std::memory_order_release);
}

void Node::wait_for_others() {
  constexpr std::chrono::microseconds kNap(200);
  for (int place = 0; place < static_cast<int>(members_.size());) {
    if (segment(place).control().joined.load(std::memory_order_acquire) != 0) {
      ++place;
      continue;
    }
    check(place);
    std::this_thread::sleep_for(kNap);
  }
}

void Node::check(int place) {
  Control& control = segment(place).control();
  const int rank = members_[static_cast<std::size_t>(place)];
  if (control.record.ended.load(std::memory_order_acquire) != 0) {
    fail(ErrorKind::kCommunication, "rank {} could not join: {}", rank,
         std::string_view(control.record.text, control.record.text_bytes));
  }
  if (control.life.owner_died()) {
    // It cannot do that itself, and has perhaps no parent that would.
    shm_unlink(fmt::format("{}{}", name_prefix(token_), rank).c_str());
    fail(ErrorKind::kCommunication,
         "rank {} has died while ranks joined; rank {} waited for it", rank,
         rank_);
  }
  if (left().count() == 0) {
    fail(ErrorKind::kTimeout, "rank {} has waited {:.3g} s for rank {} to join",
         rank_, deadline_.count(), rank);
  }
}

}  // namespace catena::shared_memory
