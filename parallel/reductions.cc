#include <algorithm>
#include <numeric>

#include "parallel/communicator.h"
#include "parallel/round.h"
#include "parallel/sum_in_order.h"
#include "runtime/base/error.h"

namespace catena {
namespace {

/// Up to here every rank sends all it has to every other, and saves a stage.
constexpr std::int64_t kSmallBytes = 16 * 1024;

}  // namespace

void Communicator::give_staging_back() {
  if (staging_ == nullptr) return;
  transport_->release(staging_, static_cast<std::size_t>(staging_bytes_));
  staging_ = nullptr;
  staging_bytes_ = 0;
}

std::vector<const std::byte*>& Communicator::stage(std::int64_t bytes) {
  constexpr std::int64_t kAlignment = 64;
  const std::int64_t step = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  const std::int64_t needed = step * (size() - 1);
  if (needed > staging_bytes_) {
    give_staging_back();
    staging_ = static_cast<std::byte*>(
        transport_->allocate(static_cast<std::size_t>(needed)));
    staging_bytes_ = needed;
  }
  sources_.resize(members_.size());
  std::byte* next = staging_;
  for (int r = 0; r < size(); ++r) {
    if (r == rank_) continue;
    sources_[static_cast<std::size_t>(r)] = next;
    next += step;
  }
  return sources_;
}

void Communicator::Round::start_reduction() {
  started = true;
  const int me = communicator_.rank();
  const std::int64_t all = x.bytes();
  whole = collective == Collective::kAllReduce && all <= kSmallBytes;
  const std::int64_t bytes = whole ? all : run_part(me).bytes;
  auto& sources = communicator_.stage(bytes);
  std::byte* const own = whole ? static_cast<std::byte*>(x.data()) : run(me);
  sources[static_cast<std::size_t>(me)] = own;
  for (int i = 1; i < communicator_.size(); ++i) {
    const int r = (me + i) % communicator_.size();
    communicator_.send(*this, 1, r, whole ? Part{own, all} : run_part(r));
    communicator_.receive(
        *this, 1, r,
        {const_cast<std::byte*>(sources[static_cast<std::size_t>(r)]), bytes});
  }
}

bool Communicator::Round::next_stage() {
  if (gathering) return true;
  const int me = communicator_.rank();
  if (communicator_.transport_->carries()) {
    sum_in_order(x.dtype(), communicator_.sources_,
                 whole ? static_cast<std::byte*>(x.data()) : run(me),
                 whole ? x.elements() : counts[static_cast<std::size_t>(me)]);
  }
  if (whole || collective == Collective::kReduceScatter) return true;
  gathering = true;
  for (int i = 1; i < communicator_.size(); ++i) {
    const int r = (me + i) % communicator_.size();
    communicator_.send(*this, 1, r, run_part(me));
    communicator_.receive(*this, 1, r, run_part(r));
  }
  return false;
}

void Communicator::advance_reductions() {
  while (!reductions_.empty()) {
    Round& round = *reductions_.front();
    if (!round.started) round.start_reduction();
    if (!round.through() || !round.next_stage()) return;
    round.finish();
    reductions_.erase(reductions_.begin());
  }
}

Pending Communicator::reduce(Round& round, TensorView x) {
  round.x = x;
  round.started = round.gathering = false;
  reductions_.push_back(&round);
  advance_reductions();
  return issued(round);
}

Pending Communicator::reduce_scatter(const Tag& tag, TensorView x,
                                     std::span<const std::int64_t> counts) {
  CATENA_CHECK(counts.size() == members_.size() && x.contiguous() &&
                   std::accumulate(counts.begin(), counts.end(),
                                   std::int64_t{0}) == x.elements(),
               "[reduce_scatter] {} counts of {}", counts.size(),
               x.shape().text());
  Round& round = begin(Collective::kReduceScatter, tag);
  round.counts.assign(counts.begin(), counts.end());
  round.begins.resize(counts.size());
  std::exclusive_scan(counts.begin(), counts.end(), round.begins.begin(),
                      std::int64_t{0});
  return reduce(round, x);
}

Pending Communicator::all_reduce(const Tag& tag, TensorView x) {
  CATENA_CHECK(x.contiguous(), "[all_reduce] of strided {}", x.shape().text());
  Round& round = begin(Collective::kAllReduce, tag);
  round.counts.resize(members_.size());
  round.begins.resize(members_.size());
  for (std::int64_t r = 0; r < size(); ++r) {
    const std::int64_t begin = x.elements() * r / size();
    round.begins[static_cast<std::size_t>(r)] = begin;
    round.counts[static_cast<std::size_t>(r)] =
        x.elements() * (r + 1) / size() - begin;
  }
  return reduce(round, x);
}

}  // namespace catena
