#pragma once

#include <cstdint>
#include <numeric>
#include <vector>

#include "parallel/communicator.h"
#include "runtime/arena.h"
#include "runtime/kernels.h"

namespace catena {

/// Copies that go from home to each rank of a group, itself among them, and
/// *guests*, the copies of others that come from each; both in runs, one a
/// rank. Vectors keep their memory.
struct RowRuns {
  std::vector<std::int64_t> out, out_begin;  ///< to each rank, and the first
  std::vector<std::int64_t> in, in_begin;    ///< from each, and the first
  /// While an exchange is issued.
  std::vector<Communicator::Part> send, receive;

  [[nodiscard]] std::int64_t copies() const { return sum(out); }
  [[nodiscard]] std::int64_t guests() const { return sum(in); }
  void resize(int ranks);

 private:
  [[nodiscard]] static std::int64_t sum(const std::vector<std::int64_t>& runs) {
    return std::accumulate(runs.begin(), runs.end(), std::int64_t{0});
  }
};

/// Moves rows along such runs, and back. What a rank sends to itself takes no
/// wire. Rows are packed into `wire` (null: into `scratch`) and, as all rows
/// here, last until the Pending is ready.
class RowExchange {
 public:
  RowExchange(Kernels& kernels, Communicator& group, const Tag& tag,
              Arena* wire = nullptr)
      : kernels_(&kernels), group_(&group), tag_(tag), wire_(wire) {}

  /// guests[g] = x[copied[c]], where copy c is guest g there.
  ///   x [tokens, columns], copied [copies] int32, guests [guests, columns]
  [[nodiscard]] Pending out(RowRuns& runs, TensorView x, TensorView copied,
                            TensorView guests, Arena& scratch) const;
  /// The same of rows that are copies already: [copies, columns].
  [[nodiscard]] Pending out(RowRuns& runs, TensorView copies,
                            TensorView guests) const;

  /// back[c] = rows[g]. rows [guests, columns], back [copies, columns]
  [[nodiscard]] Pending back(RowRuns& runs, TensorView rows,
                             TensorView back) const;
  /// The same of rows that form(begin, count, to) makes: those of guests
  /// begin .. begin + count - 1, in `to`.
  template <class Form>
  [[nodiscard]] Pending back(RowRuns& runs, const Form& form, TensorView back,
                             Arena& scratch) const {
    const auto me = static_cast<std::size_t>(group_->rank());
    const std::int64_t guests = runs.guests();
    const TensorView packed =
        (wire_ != nullptr ? *wire_ : scratch)
            .allocate(back.dtype(), {guests, back.size(1)});
    const std::int64_t own = runs.in[me];
    const std::int64_t begin = runs.in_begin[me], end = begin + own;
    form(0, begin, packed.slice(0, 0, begin));
    form(begin, own, back.slice(0, runs.out_begin[me], own));
    form(end, guests - end, packed.slice(0, end, guests - end));
    cut(packed, runs.in_begin, runs.in, runs.send);
    cut(back, runs.out_begin, runs.out, runs.receive);
    runs.send[me] = runs.receive[me];
    return group_->all_to_all_v(tag_, runs.send, runs.receive);
  }

 private:
  static void cut(TensorView rows, const std::vector<std::int64_t>& begins,
                  const std::vector<std::int64_t>& counts,
                  std::vector<Communicator::Part>& parts);

  Kernels* kernels_;
  Communicator* group_;
  Tag tag_;
  Arena* wire_;
};

}  // namespace catena
