#include "parallel/dispatch_rules.h"

namespace catena {
namespace {

/// Where all but the last of a round's copies must end: the last may have top_k
/// rows.
std::int64_t quota(std::int64_t budget, std::int64_t top_k) {
  return budget - top_k + 1;
}

}  // namespace

DType DispatchRules::sum_type(DType compute) const {
  return compute == DType::kFloat64 ? compute : wire.value_or(compute);
}

DType DispatchRules::row_type(DType compute) const {
  const DType type = sum_type(compute);
  return size_bytes(type) < size_bytes(compute) ? type : compute;
}

std::int64_t DispatchRules::rounds(std::int64_t rows,
                                   std::int64_t top_k) const {
  if (rows <= budget(top_k)) return 1;
  const std::int64_t of = quota(budget(top_k), top_k);
  return rows / of + (rows % of != 0 ? 1 : 0);
}

void DispatchRules::cut(Backend& backend, const Copies& copies,
                        std::int64_t top_k, std::int64_t rounds,
                        std::int32_t* ends) const {
  const bool all = copies.rows <= budget(top_k);
  const std::int64_t of_round = quota(budget(top_k), top_k);
  // First copy whose first row falls beyond the round.
  std::int64_t end = 0;
  for (std::int64_t round = 0; round < rounds; ++round) {
    std::int64_t count = copies.count - end;
    while (count > 0) {
      const std::int64_t half = count / 2;
      std::int32_t rows = 0;
      backend.copy_to_host(&rows, copies.before + end + half, sizeof rows);
      if (all || copies.base + rows < (round + 1) * of_round) {
        end += half + 1;
        count -= half + 1;
      } else {
        count = half;
      }
    }
    const auto value = static_cast<std::int32_t>(end);
    backend.copy_from_host(ends + round, &value, sizeof value);
  }
}

}  // namespace catena
