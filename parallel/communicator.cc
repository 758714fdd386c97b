#include "parallel/communicator.h"

#include <algorithm>
#include <atomic>
#include <numeric>

#include "parallel/round.h"
#include "parallel/wait_listener.h"
#include "runtime/base/error.h"

namespace catena {
namespace {

/// Deadlines that a root is given by those that wait for it.
constexpr double kRootsDeadlines = 1.25;
constexpr double kTellSeconds = 1;

std::atomic<WaitListener> wait_listener = nullptr;

}  // namespace

void set_wait_listener(WaitListener listener) { wait_listener.store(listener); }

void Communicator::Round::finish() {
  Transport& transport = *communicator_.transport_;
  transport.counter().end(tag.phase, asked.has_value(), transport.now());
  done = true;
  --communicator_.open_;
}

double Communicator::Round::patience() const {
  const double deadline = communicator_.deadline_.count();
  return root < 0 || root == communicator_.rank() ? deadline
                                                  : deadline * kRootsDeadlines;
}

std::vector<int> Communicator::Round::missing() const {
  std::vector<int> ranks;
  for (std::size_t r = 0; r < sending.size(); ++r) {
    if (sending[r] == 0 && receiving[r] == 0) continue;
    ranks.push_back(communicator_.members_[r]);
  }
  return ranks;
}

void Communicator::Round::tell_wait(double seconds) const {
  const WaitListener listener = wait_listener.load();
  if (listener == nullptr) return;
  std::vector<int> ranks = missing();
  // It has not begun: it waits for the reduction before it.
  if (ranks.empty() && !communicator_.reductions_.empty()) {
    ranks = communicator_.reductions_.front()->missing();
  }
  if (ranks.empty()) return;
  listener({communicator_.transport_->rank(), ranks.front(),
            packed(collective, tag), seconds});
}

bool Communicator::Round::poll(std::uint64_t of) {
  if (of < ticket || counted) return true;
  Transport& transport = *communicator_.transport_;
  if (!done && !asked) {
    asked = transport.now();
    transport.counter().wait(tag.phase, *asked);
  }
  while (!done) {
    transport.advance();
    if (!done && !transport.idle()) break;
  }
  if (done) {
    counted = true;
    transport.counter().count(tag.phase);
    return true;
  }
  const double waited = transport.now() - *asked;
  if (waited - told >= kTellSeconds) {
    told = waited;
    tell_wait(waited);
  }
  if (waited > patience()) communicator_.give_up(*this);
  return false;
}

Communicator::Communicator(Transport& transport, std::vector<int> members,
                           Deadline deadline)
    : Communicator(transport, std::move(members), deadline,
                   transport.take_lanes(2)) {
  lanes_taken_ = 2;
}

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
  if (lanes_taken_ > 0) transport_->give_lanes_back(lane_, lanes_taken_);
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
  round.told = 0;
  round.collective = collective;
  round.tag = tag;
  round.root = root;
  round.x = {};
  transport_->counter().begin(tag.phase, transport_->now());
  return round;
}

Pending Communicator::issued(Round& round) {
  transport_->progress();
  return {round, round.ticket};
}

void Communicator::send(Round& round, int lane, int to, const Part& part) {
  const int peer = members_[static_cast<std::size_t>(to)];
  transport_->counter().send(round.tag.phase, part.bytes,
                             !transport_->shares_node_with(peer));
  transport_->send(peer, lane_ + lane, part.data, part.bytes,
                   packed(round.collective, round.tag),
                   round.sending[static_cast<std::size_t>(to)]);
}

void Communicator::receive(Round& round, int lane, int from, const Part& part) {
  transport_->receive(members_[static_cast<std::size_t>(from)], lane_ + lane,
                      part.data, part.bytes,
                      packed(round.collective, round.tag),
                      round.receiving[static_cast<std::size_t>(from)]);
}

void Communicator::advance() {
  advance_reductions();
  for (const auto& round : rounds_) round->finish_if_through();
}

void Communicator::give_up(const Round& round) {
  round.tell_wait(round.patience());
  std::string waits;
  for (const int rank : round.missing()) {
    waits += fmt::format("{}{}", waits.empty() ? "" : ", ", rank);
  }
  if (waits.empty()) waits = "another reduction";
  const std::string why = fmt::format(
      "rank {} has waited {:.3g} s for rank {} in {}", transport_->rank(),
      round.patience(), waits, text_of(packed(round.collective, round.tag)));
  transport_->abandon(why);
  fail(ErrorKind::kTimeout,
       "{}; look for what stopped that rank, or raise parallel.timeout", why);
}

}  // namespace catena
