#include "parallel/row_exchange.h"

namespace catena {

void RowRuns::resize(int ranks) {
  for (auto* values : {&out, &out_begin, &in, &in_begin}) {
    values->resize(static_cast<std::size_t>(ranks));
  }
}

void RowExchange::cut(TensorView rows, const std::vector<std::int64_t>& begins,
                      const std::vector<std::int64_t>& counts,
                      std::vector<Communicator::Part>& parts) {
  const std::int64_t row_bytes = rows.size(1) * size_bytes(rows.dtype());
  auto* data = static_cast<std::byte*>(rows.data());
  parts.clear();
  for (std::size_t r = 0; r < counts.size(); ++r) {
    parts.push_back({data + begins[r] * row_bytes, counts[r] * row_bytes});
  }
}

Pending RowExchange::out(RowRuns& runs, TensorView x, TensorView copied,
                         TensorView guests, Arena& scratch) const {
  const auto me = static_cast<std::size_t>(group_->rank());
  const TensorView packed =
      (wire_ != nullptr ? *wire_ : scratch)
          .allocate(guests.dtype(), {runs.copies(), x.size(1)});
  const auto gather = [&](std::int64_t from, std::int64_t count,
                          TensorView to) {
    (*kernels_)(GatherRows{
        .source = x, .index = copied.slice(0, from, count), .out = to});
  };
  std::vector<Communicator::Part>& send = runs.send;
  const std::int64_t row_bytes = packed.size(1) * size_bytes(packed.dtype());
  auto* data = static_cast<std::byte*>(packed.data());
  send.clear();
  std::int64_t at = 0;
  for (std::size_t r = 0; r < runs.out.size();) {
    const std::int64_t begin = runs.out_begin[r];
    std::int64_t count = 0;
    // Copies for several ranks lie side by side unless rounds part them.
    const bool own = r == me;
    do {
      send.push_back(
          {data + (at + count) * row_bytes, runs.out[r] * row_bytes});
      count += runs.out[r++];
    } while (!own && r < runs.out.size() && r != me &&
             runs.out_begin[r] == begin + count);
    gather(begin, count,
           own ? guests.slice(0, runs.in_begin[me], count)
               : packed.slice(0, at, count));
    at += count;
  }
  cut(guests, runs.in_begin, runs.in, runs.receive);
  send[me] = runs.receive[me];
  return group_->all_to_all_v(tag_, send, runs.receive);
}

Pending RowExchange::out(RowRuns& runs, TensorView copies,
                         TensorView guests) const {
  cut(copies, runs.out_begin, runs.out, runs.send);
  cut(guests, runs.in_begin, runs.in, runs.receive);
  return group_->all_to_all_v(tag_, runs.send, runs.receive);
}

Pending RowExchange::back(RowRuns& runs, TensorView rows,
                          TensorView back) const {
  cut(rows, runs.in_begin, runs.in, runs.send);
  cut(back, runs.out_begin, runs.out, runs.receive);
  return group_->all_to_all_v(tag_, runs.send, runs.receive);
}

}  // namespace catena
