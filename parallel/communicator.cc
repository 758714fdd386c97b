#include "parallel/communicator.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <optional>

#include "parallel/sum_in_order.h"
#include "runtime/base/error.h"

namespace catena {
namespace {

/// Up to here every rank sends all it has to every other, and saves a stage.
constexpr std::int64_t kSmallBytes = 16 * 1024;
/// Deadlines that a root is given by those that wait for it.
constexpr double kRootsDeadlines = 1.25;

}  // namespace

/// One collective under way.
class Communicator::Round final : public Operation {
 public:
  Round(Communicator& communicator, std::size_t size)
      : communicator_(communicator), sending(size), receiving(size) {}

  [[nodiscard]] bool poll(std::uint64_t ticket) override;

  void start_reduction();
  void finish();
  /// Finishes it if all of its messages are through; sums have more to do.
  void finish_if_through() {
    if (!done && !x.defined() && through()) finish();
  }
  /// Enters it into the communicator's traffic, when it is waited for.
  void count();
  [[nodiscard]] bool through() const {
    const auto none = [](std::int64_t open) { return open == 0; };
    return std::all_of(sending.begin(), sending.end(), none) &&
           std::all_of(receiving.begin(), receiving.end(), none);
  }
  /// When all messages of a stage are through. Returns whether it was the last.
  [[nodiscard]] bool next_stage();
  /// For how many seconds it may be waited for.
  [[nodiscard]] double patience() const {
    const double deadline = communicator_.deadline_.count();
    return root < 0 || root == communicator_.rank()
               ? deadline
               : deadline * kRootsDeadlines;
  }

 private:
  [[nodiscard]] std::byte* run(int member) const {
    return static_cast<std::byte*>(x.data()) +
           begins[static_cast<std::size_t>(member)] * size_bytes(x.dtype());
  }
  [[nodiscard]] Part run_part(int member) const {
    return {run(member),
            counts[static_cast<std::size_t>(member)] * size_bytes(x.dtype())};
  }

  Communicator& communicator_;

 public:
  std::uint64_t ticket = 0;
  bool done = true;
  Collective collective = Collective::kBarrier;
  Tag tag;
  int root = -1;
  /// By the transport's clock; asked: since when the rank waits for it.
  double since = 0, finished = 0;
  std::optional<double> asked;
  /// Of the communicator: at issue, and when it was asked for or finished.
  double exposed_before = 0, exposed_after = 0;
  std::vector<std::int64_t> sending, receiving;  ///< open messages, by member

  TensorView x;  ///< of reductions
  std::vector<std::int64_t> counts, begins;
  bool counted = true;
  bool started = false, whole = false, gathering = false;
};

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
  since = communicator_.transport_->now();
  exposed_before = communicator_.exposed_seconds_;
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
  if (gathering || !communicator_.transport_->carries()) return true;
  const int me = communicator_.rank();
  if (whole) {
    sum_in_order(x.dtype(), communicator_.sources_, x.data(), x.elements());
    return true;
  }
  sum_in_order(x.dtype(), communicator_.sources_, run(me),
               counts[static_cast<std::size_t>(me)]);
  if (collective == Collective::kReduceScatter) return true;
  gathering = true;
  for (int i = 1; i < communicator_.size(); ++i) {
    const int r = (me + i) % communicator_.size();
    communicator_.send(*this, 1, r, run_part(me));
    communicator_.receive(*this, 1, r, run_part(r));
  }
  return false;
}

void Communicator::Round::finish() {
  done = true;
  finished = communicator_.transport_->now();
  if (!asked) exposed_after = communicator_.exposed_seconds_;
  --communicator_.open_;
}

void Communicator::Round::count() {
  PhaseTraffic& traffic = communicator_.traffic_[tag.phase];
  ++traffic.collectives;
  traffic.overlapped_seconds +=
      std::max(0.0, std::min(*asked, finished) - since -
                        (exposed_after - exposed_before));
  const double exposed = std::max(0.0, finished - *asked);
  traffic.exposed_seconds += exposed;
  communicator_.exposed_seconds_ += exposed;
  counted = true;
}

bool Communicator::Round::poll(std::uint64_t of) {
  if (of < ticket || counted) return true;
  if (!asked) {
    asked = communicator_.transport_->now();
    if (!done) exposed_after = communicator_.exposed_seconds_;
  }
  if (!done) {
    Transport& transport = *communicator_.transport_;
    do {
      transport.advance();
    } while (!done && transport.idle());
  }
  if (done) {
    count();
    return true;
  }
  if (communicator_.transport_->now() - *asked > patience()) {
    communicator_.give_up(*this);
  }
  return false;
}

Communicator::Communicator(Transport& transport, std::vector<int> members,
                           Deadline deadline)
    : Communicator(transport, std::move(members), deadline,
                   transport.take_lanes(2)) {}

Communicator::Communicator(Transport& transport, std::vector<int> members,
                           Deadline deadline, int lane)
    : transport_(&transport),
      members_(std::move(members)),
      lane_(lane),
      deadline_(deadline) {
  const auto me = std::find(members_.begin(), members_.end(), transport.rank());
  CATENA_CHECK(me != members_.end() &&
                   std::is_sorted(members_.begin(), members_.end()) &&
                   members_.front() >= 0 && members_.back() < transport.size(),
               "[communicator] rank {} is not among the members",
               transport.rank());
  rank_ = static_cast<int>(me - members_.begin());
  transport.add(*this);
}

Communicator::Communicator(Transport& transport, Deadline deadline)
    : Communicator(
          transport,
          [&] {
            std::vector<int> all(static_cast<std::size_t>(transport.size()));
            std::iota(all.begin(), all.end(), 0);
            return all;
          }(),
          deadline) {}

Communicator::~Communicator() {
  transport_->remove(*this);
  give_staging_back();
}

Communicator::Round& Communicator::begin(Collective collective, const Tag& tag,
                                         int root) {
  auto at = std::find_if(rounds_.begin(), rounds_.end(), [](const auto& round) {
    return round->done && round->counted;
  });
  if (at == rounds_.end()) {
    at = rounds_.insert(at, std::make_unique<Round>(*this, members_.size()));
  }
  Round& round = **at;
  ++open_;
  ++round.ticket;
  round.done = round.counted = false;
  round.asked.reset();
  round.exposed_before = exposed_seconds_;
  round.collective = collective;
  round.tag = tag;
  round.root = root;
  round.since = transport_->now();
  round.x = {};
  return round;
}

Pending Communicator::issued(Round& round) {
  transport_->progress();
  return {round, round.ticket};
}

void Communicator::send(Round& round, int lane, int to, const Part& part) {
  traffic_[round.tag.phase].sent_bytes += part.bytes;
  transport_->send(members_[static_cast<std::size_t>(to)], lane_ + lane,
                   part.data, part.bytes, packed(round.collective, round.tag),
                   round.sending[static_cast<std::size_t>(to)]);
}

void Communicator::receive(Round& round, int lane, int from, const Part& part) {
  transport_->receive(members_[static_cast<std::size_t>(from)], lane_ + lane,
                      part.data, part.bytes,
                      packed(round.collective, round.tag),
                      round.receiving[static_cast<std::size_t>(from)]);
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

void Communicator::advance() {
  advance_reductions();
  for (const auto& round : rounds_) round->finish_if_through();
}

void Communicator::give_up(const Round& round) {
  std::string waits;
  for (std::size_t r = 0; r < members_.size(); ++r) {
    if (round.sending[r] == 0 && round.receiving[r] == 0) continue;
    waits += fmt::format("{}{}", waits.empty() ? "" : ", ", members_[r]);
  }
  if (waits.empty()) waits = "another reduction";
  const std::string why = fmt::format(
      "rank {} has waited {:.3g} s for rank {} in {}", transport_->rank(),
      round.patience(), waits, text_of(packed(round.collective, round.tag)));
  transport_->abandon(why);
  fail(ErrorKind::kTimeout,
       "{}; look for what stopped that rank, or raise parallel.timeout", why);
}

Pending Communicator::all_to_all_v(const Tag& tag, std::span<const Part> send,
                                   std::span<const Part> receive) {
  CATENA_CHECK(
      send.size() == members_.size() && receive.size() == members_.size(),
      "[all_to_all_v] {} and {} parts for {} ranks", send.size(),
      receive.size(), members_.size());
  const auto me = static_cast<std::size_t>(rank_);
  CATENA_CHECK(send[me].bytes == receive[me].bytes,
               "[all_to_all_v] own part of {} and {} bytes", send[me].bytes,
               receive[me].bytes);
  Round& round = begin(Collective::kAllToAllV, tag);
  for (int i = 1; i < size(); ++i) {
    const int to = (rank_ + i) % size();
    this->send(round, 0, to, send[static_cast<std::size_t>(to)]);
    const int from = (rank_ + size() - i) % size();
    this->receive(round, 0, from, receive[static_cast<std::size_t>(from)]);
  }
  if (send[me].data != receive[me].data && send[me].bytes > 0 &&
      transport_->carries()) {
    std::memcpy(receive[me].data, send[me].data,
                static_cast<std::size_t>(send[me].bytes));
  }
  return issued(round);
}

Pending Communicator::all_gather_v(const Tag& tag,
                                   std::span<const Part> parts) {
  CATENA_CHECK(parts.size() == members_.size(),
               "[all_gather_v] {} parts for {} ranks", parts.size(),
               members_.size());
  Round& round = begin(Collective::kAllGatherV, tag);
  for (int i = 1; i < size(); ++i) {
    send(round, 0, (rank_ + i) % size(),
         parts[static_cast<std::size_t>(rank_)]);
    const int from = (rank_ + size() - i) % size();
    receive(round, 0, from, parts[static_cast<std::size_t>(from)]);
  }
  return issued(round);
}

Pending Communicator::gather_v(const Tag& tag, int root,
                               std::span<const Part> parts) {
  CATENA_CHECK(parts.size() == members_.size() && root >= 0 && root < size(),
               "[gather_v] {} parts for {} ranks, to {}", parts.size(),
               members_.size(), root);
  Round& round = begin(Collective::kGatherV, tag, root);
  if (rank_ != root) {
    send(round, 0, root, parts[static_cast<std::size_t>(rank_)]);
    return issued(round);
  }
  for (int r = 0; r < size(); ++r) {
    if (r != root) receive(round, 0, r, parts[static_cast<std::size_t>(r)]);
  }
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

Pending Communicator::broadcast(const Tag& tag, int root, void* data,
                                std::int64_t bytes) {
  CATENA_CHECK(root >= 0 && root < size(), "[broadcast] from {} of {}", root,
               size());
  Round& round = begin(Collective::kBroadcast, tag, root);
  if (rank_ != root) {
    receive(round, 0, root, {data, bytes});
    return issued(round);
  }
  for (int i = 1; i < size(); ++i) {
    send(round, 0, (rank_ + i) % size(), {data, bytes});
  }
  return issued(round);
}

Pending Communicator::barrier(const Tag& tag) {
  Round& round = begin(Collective::kBarrier, tag);
  for (int i = 1; i < size(); ++i) {
    send(round, 0, (rank_ + i) % size(), {});
    receive(round, 0, (rank_ + size() - i) % size(), {});
  }
  return issued(round);
}

}  // namespace catena
