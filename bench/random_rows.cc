#include "bench/random_rows.h"

#include "runtime/base/random.h"

namespace catena::bench {

data::Batch random_rows(const Config& config, std::uint64_t number) {
  const Random random(7, number);
  data::Batch batch;
  batch.rows = config.rows_per_step();
  batch.sequence = config.data.sequence;
  const auto vocabulary = static_cast<std::uint32_t>(config.model.vocabulary);
  for (std::int64_t row = 0; row < batch.rows; ++row) {
    const std::int64_t begin = row * batch.sequence;
    batch.row_offsets.push_back(begin);
    for (std::int64_t i = 0; i < batch.sequence; ++i) {
      const auto word = random.words(static_cast<std::uint64_t>(begin + i))[0];
      batch.tokens.push_back(static_cast<std::int32_t>(word % vocabulary));
      batch.positions.push_back(static_cast<std::int32_t>(i));
      batch.first.push_back(static_cast<std::int32_t>(begin));
    }
  }
  batch.row_offsets.push_back(batch.rows * batch.sequence);
  batch.targets.assign(batch.tokens.begin() + 1, batch.tokens.end());
  batch.targets.push_back(-1);
  batch.trained_tokens = static_cast<std::int64_t>(batch.tokens.size()) - 1;
  return batch;
}

}  // namespace catena::bench
