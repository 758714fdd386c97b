#pragma once

#include <chrono>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "parallel/pipeline.h"
#include "parallel/tag.h"
#include "parallel/transport.h"
#include "runtime/tensor.h"

namespace catena {

/// Exchanges between a group of ranks. Every member issues the same
/// collectives in the same order; each returns at once, and is finished when
/// its Pending is ready. The data must stay until then.
///
/// Sums are formed in the order of members, each element on one rank: the
/// bits do not depend on who is early, and are the same everywhere.
///
/// A collective that this rank has waited for, for longer than `deadline`, ends
/// in Error(kTimeout), which names the ranks that it waits for. A rank that has
/// ended, gave up, or is in another collective ends it at once in
/// Error(kCommunication). Either way every other rank is told. Where one rank
/// is the root, the others wait a quarter longer: it may be late because it
/// waits for yet another, and is to name that one first.
///
/// A wait for one of them moves on all that the rank has under way over the
/// transport, those of its other communicators too.
///
/// Memory is the host's. Thread rule: one thread.
class Communicator final : public Transport::Client {
 public:
  using Deadline = std::chrono::duration<double>;

  /// `members`: ranks of the transport, ascending, this one among them.
  /// Every rank makes its communicators in the same order, as many as the
  /// others, and ends them so. Its two lanes are free again when it is gone, if
  /// no others were taken since. Borrows the transport.
  Communicator(Transport& transport, std::vector<int> members,
               Deadline deadline);
  /// Of all ranks.
  Communicator(Transport& transport, Deadline deadline);
  /// On the two lanes from `lane` on, which other communicators use too. Two
  /// ranks that are members of several of them finish the exchanges of one
  /// before they begin any of another, and in the same order.
  Communicator(Transport& transport, std::vector<int> members,
               Deadline deadline, int lane);
  ~Communicator() override;
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  /// Place among the members.
  [[nodiscard]] int rank() const { return rank_; }
  [[nodiscard]] int size() const { return static_cast<int>(members_.size()); }
  [[nodiscard]] std::span<const int> members() const { return members_; }
  [[nodiscard]] Transport& transport() const { return *transport_; }

  struct Part {
    void* data = nullptr;
    std::int64_t bytes = 0;
  };
  /// send[r] goes to member r, receive[r] comes from it: an entry a member,
  /// empty ones too. The own part is copied, unless both are the same place.
  Pending all_to_all_v(const Tag& tag, std::span<const Part> send,
                       std::span<const Part> receive);

  /// Fills parts[r] from member r's; the own one is there already.
  Pending all_gather_v(const Tag& tag, std::span<const Part> parts);

  /// The same for the root alone; others need their own part only.
  Pending gather_v(const Tag& tag, int root, std::span<const Part> parts);

  /// x is cut into a run for each member: counts[r] elements, in order. The
  /// own run becomes the sum of all members' runs; the others are used up.
  ///   x [sum of counts], contiguous: float32, float64, int32 or int64
  Pending reduce_scatter(const Tag& tag, TensorView x,
                         std::span<const std::int64_t> counts);

  /// x = sum of all members' x. Contiguous: float32, float64, int32 or int64.
  Pending all_reduce(const Tag& tag, TensorView x);

  /// data = the root's. `root` is a place among the members.
  Pending broadcast(const Tag& tag, int root, void* data, std::int64_t bytes);

  Pending barrier(const Tag& tag);

  [[nodiscard]] Deadline deadline() const { return deadline_; }
  /// Whether any collective is under way.
  [[nodiscard]] bool busy() const override { return open_ > 0; }
  /// Takes on what transport().progress() has moved: called by
  /// transport().advance().
  void advance() override;

 private:
  class Round;
  friend class Round;
  /// `root`: -1, or of the place among the members.
  [[nodiscard]] Round& begin(Collective collective, const Tag& tag,
                             int root = -1);
  /// Copies what can be copied, now that all messages are posted.
  [[nodiscard]] Pending issued(Round& round);
  void send(Round& round, int lane, int to, const Part& part);
  void receive(Round& round, int lane, int from, const Part& part);
  /// round.counts and round.begins are set.
  [[nodiscard]] Pending reduce(Round& round, TensorView x);
  /// Starts reductions in the order they were issued, one at a time: their
  /// later messages depend on earlier ones, and so would their order.
  void advance_reductions();
  [[noreturn]] void give_up(const Round& round);
  /// A place for what comes from each other member, all of `bytes`.
  std::vector<const std::byte*>& stage(std::int64_t bytes);
  void give_staging_back();

  Transport* transport_;
  std::vector<int> members_;
  int rank_ = 0, lane_ = 0;
  int lanes_taken_ = 0;  ///< from lane_ on, by this one
  Deadline deadline_;
  std::vector<std::unique_ptr<Round>> rounds_;
  int open_ = 0;                    ///< rounds that are not finished
  std::vector<Round*> reductions_;  ///< not finished; the first is under way
  /// What the reduction under way sums, by member, and where others' lie.
  std::vector<const std::byte*> sources_;
  std::byte* staging_ = nullptr;
  std::int64_t staging_bytes_ = 0;
};

}  // namespace catena
