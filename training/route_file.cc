#include "training/route_file.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "runtime/base/error.h"

namespace catena {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr std::string_view kMagic = "CATROUTE";
constexpr std::uint32_t kVersion = 1;
constexpr std::int64_t kHeaderBytes = 48;
constexpr std::int64_t kRecordHead = 24;
constexpr std::int64_t kHash = sizeof(std::uint64_t);
// Of layers, iterations and experts: sizes then fit 64 bits.
constexpr std::int64_t kMost = 65536;
constexpr std::int64_t kMostOneByte = 256;

template <class T>
void append(std::string& to, std::int64_t value) {
  const auto number = static_cast<T>(value);
  to.append(reinterpret_cast<const char*>(&number), sizeof number);
}

void append_hash(std::string& to) {
  const std::uint64_t hash = hash64(std::string_view(to));
  to.append(reinterpret_cast<const char*>(&hash), sizeof hash);
}

std::int64_t width_of(std::int64_t experts) {
  return experts <= kMostOneByte ? 1 : 2;
}

}  // namespace

RouteShape RouteShape::of(const ModelConfig& model) {
  return {.layers = model.chain_layers(),
          .iterations = model.chain.iterations,
          .experts = model.chain.routed_experts,
          .top_k = model.chain.top_k,
          .forced_balanced = model.router.force_balanced};
}

RouteFileWriter::RouteFileWriter(const std::filesystem::path& path,
                                 const RouteShape& shape)
    : file_(path), shape_(shape) {
  CATENA_CHECK(shape.experts <= kMost && shape.layers <= kMost &&
                   shape.iterations <= kMost,
               "[route_file] {} layers, {} iterations, {} experts",
               shape.layers, shape.iterations, shape.experts);
  std::string header(kMagic);
  for (const std::int64_t number :
       {std::int64_t{kVersion}, shape.layers, shape.iterations, shape.experts,
        shape.top_k, width_of(shape.experts),
        std::int64_t{shape.forced_balanced}, std::int64_t{0}}) {
    append<std::uint32_t>(header, number);
  }
  append_hash(header);
  file_.write(header);
}

void RouteFileWriter::write(const RoutedStep& step) {
  CATENA_CHECK(step.step > last_, "[route_file] step {} after {}", step.step,
               last_);
  CATENA_CHECK(static_cast<std::int64_t>(step.experts.size()) ==
                   step.tokens() * shape_.choices(),
               "[route_file] {} choices of {} tokens", step.experts.size(),
               step.tokens());
  record_.clear();
  append<std::uint64_t>(record_, step.step);
  record_.append(reinterpret_cast<const char*>(&step.tokens_hash), kHash);
  append<std::uint64_t>(record_,
                        static_cast<std::int64_t>(step.row_offsets.size()) - 1);
  for (std::size_t row = 0; row + 1 < step.row_offsets.size(); ++row) {
    append<std::uint32_t>(record_,
                          step.row_offsets[row + 1] - step.row_offsets[row]);
  }
  const bool narrow = width_of(shape_.experts) == 1;
  for (const std::int32_t expert : step.experts) {
    if (narrow) {
      append<std::uint8_t>(record_, expert);
    } else {
      append<std::uint16_t>(record_, expert);
    }
  }
  append_hash(record_);
  file_.write(record_);
  last_ = step.step;
  ++steps_;
}

void RouteFileWriter::finish() {
  std::string end;
  append<std::uint64_t>(end, 0);
  append<std::uint64_t>(end, steps_);
  append_hash(end);
  file_.write(end);
  file_.commit();
}

RouteFile::RouteFile(const std::filesystem::path& path)
    : mapped_(path), bytes_(mapped_.bytes()), name_(path.string()) {
  parse();
}

RouteFile::RouteFile(std::span<const std::byte> bytes, std::string name)
    : bytes_(bytes), name_(std::move(name)) {
  parse();
}

template <class T>
T RouteFile::number(std::int64_t begin) const {
  T value;
  std::memcpy(&value, bytes_.data() + begin, sizeof value);
  return value;
}

void RouteFile::need(std::int64_t begin, std::int64_t count,
                     const char* what) const {
  if (count <= size() - begin) return;
  fail(ErrorKind::kData,
       "{}: offset {}: {} needs {} bytes, and the file has {} more; it was cut "
       "short: record the routes again",
       name_, begin, what, count, size() - begin);
}

void RouteFile::check_hash(std::int64_t begin, std::int64_t end,
                           const char* what) const {
  const auto part = bytes_.subspan(static_cast<std::size_t>(begin),
                                   static_cast<std::size_t>(end - begin));
  if (hash64(part) == number<std::uint64_t>(end)) return;
  fail(ErrorKind::kData,
       "{}: offset {}: {} does not have the hash that stands at offset {}; the "
       "file is damaged: record the routes again",
       name_, begin, what, end);
}

void RouteFile::parse_header() {
  const std::string_view begin(reinterpret_cast<const char*>(bytes_.data()),
                               std::min(bytes_.size(), kMagic.size()));
  if (begin != kMagic) {
    fail(ErrorKind::kData,
         "{}: offset 0: this is no file of routes; catena train "
         "--record-routing writes one",
         name_);
  }
  need(0, kHeaderBytes, "the header");
  if (const auto version = number<std::uint32_t>(8); version != kVersion) {
    fail(ErrorKind::kData,
         "{}: offset 8: version {}, and this program reads {}; use the program "
         "that wrote it",
         name_, version, kVersion);
  }
  check_hash(0, kHeaderBytes - kHash, "the header");
  const auto at = [&](std::int64_t begin, std::int64_t least, std::int64_t most,
                      const char* what) {
    const std::int64_t value = number<std::uint32_t>(begin);
    if (value < least || value > most) {
      fail(ErrorKind::kData, "{}: offset {}: {} is {}; it must be {} to {}",
           name_, begin, what, value, least, most);
    }
    return value;
  };
  shape_.layers = at(12, 1, kMost, "the number of layers");
  shape_.iterations = at(16, 1, kMost, "the number of iterations");
  shape_.experts = at(20, 1, kMost, "the number of experts");
  shape_.top_k = at(24, 1, shape_.experts, "top_k");
  width_ = width_of(shape_.experts);
  (void)at(28, width_, width_, "the size of an expert's number");
  shape_.forced_balanced = at(32, 0, 1, "the mark of dealt routes") == 1;
  (void)at(36, 0, 0, "what is not used");
}

RouteFile::Record RouteFile::parse_record(std::int64_t begin) const {
  Record record{};
  record.begin = begin;
  need(begin, kRecordHead, "a step");
  const auto step = number<std::uint64_t>(begin);
  const auto rows = number<std::uint64_t>(begin + 16);
  const std::int64_t lengths = begin + kRecordHead;
  const auto left = static_cast<std::uint64_t>(size() - lengths);
  if (rows > left / sizeof(std::uint32_t)) {
    need(lengths, std::numeric_limits<std::int64_t>::max(), "a step's rows");
  }
  record.rows = static_cast<std::int64_t>(rows);
  for (std::int64_t row = 0; row < record.rows; ++row) {
    record.tokens += number<std::uint32_t>(lengths + 4 * row);
  }
  const std::int64_t experts = lengths + 4 * record.rows;
  const std::int64_t of_token = shape_.choices() * width_;
  if (record.tokens > (size() - experts) / of_token) {
    fail(ErrorKind::kData,
         "{}: offset {}: {} tokens with {} bytes of experts each are more than "
         "the file has; it was cut short: record the routes again",
         name_, experts, record.tokens, of_token);
  }
  const std::int64_t end = experts + record.tokens * of_token;
  need(end, kHash, "a step's hash");
  check_hash(begin, end, "a step");
  const std::int64_t before = records_.empty() ? 0 : records_.back().step;
  if (step > static_cast<std::uint64_t>(
                 std::numeric_limits<std::int64_t>::max()) ||
      static_cast<std::int64_t>(step) <= before) {
    fail(ErrorKind::kData, "{}: offset {}: step {} comes after step {}", name_,
         begin, step, before);
  }
  record.step = static_cast<std::int64_t>(step);
  return record;
}

void RouteFile::parse_end(std::int64_t begin) const {
  need(begin, 3 * kHash, "the end");
  check_hash(begin, begin + 2 * kHash, "the end");
  const auto steps = number<std::uint64_t>(begin + kHash);
  if (steps != records_.size()) {
    fail(ErrorKind::kData, "{}: offset {}: {} steps were written, {} are there",
         name_, begin + kHash, steps, records_.size());
  }
  if (begin + 3 * kHash != size()) {
    fail(ErrorKind::kData, "{}: offset {}: {} bytes follow the end", name_,
         begin + 3 * kHash, size() - begin - 3 * kHash);
  }
}

void RouteFile::parse() {
  parse_header();
  std::int64_t at = kHeaderBytes;
  while (true) {
    need(at, kHash, "a step or the end");
    if (number<std::uint64_t>(at) == 0) return parse_end(at);
    const Record record = parse_record(at);
    records_.push_back(record);
    at += kRecordHead + 4 * record.rows +
          record.tokens * shape_.choices() * width_ + kHash;
  }
}

std::vector<std::int64_t> RouteFile::steps() const {
  std::vector<std::int64_t> steps;
  for (const Record& record : records_) steps.push_back(record.step);
  return steps;
}

template <class T>
void RouteFile::read_experts(const Record& record, std::int64_t begin,
                             RoutedStep& to) const {
  const std::int64_t k = shape_.top_k;
  const auto count = static_cast<std::size_t>(record.tokens * shape_.choices());
  to.experts.resize(count);
  for (std::size_t i = 0; i < count; ++i) {
    const std::int64_t offset =
        begin + static_cast<std::int64_t>(i * sizeof(T));
    const std::int32_t expert = number<T>(offset);
    if (expert >= shape_.experts) {
      fail(ErrorKind::kData, "{}: offset {}: expert {} of {}", name_, offset,
           expert, shape_.experts);
    }
    const auto first =
        to.experts.begin() +
        static_cast<std::ptrdiff_t>(i - i % static_cast<std::size_t>(k));
    const auto here = to.experts.begin() + static_cast<std::ptrdiff_t>(i);
    if (std::find(first, here, expert) != here) {
      fail(ErrorKind::kData, "{}: offset {}: a token chose expert {} twice",
           name_, offset, expert);
    }
    *here = expert;
  }
}

void RouteFile::read(std::int64_t step, RoutedStep& to) const {
  const auto record = std::lower_bound(
      records_.begin(), records_.end(), step,
      [](const Record& a, std::int64_t number) { return a.step < number; });
  if (record == records_.end() || record->step != step) {
    fail(ErrorKind::kData, "{}: step {} is not there; it holds {}", name_, step,
         records_.empty()
             ? "none"
             : fmt::format("{} steps, {} to {}", records_.size(),
                           records_.front().step, records_.back().step));
  }
  to.step = step;
  to.tokens_hash = number<std::uint64_t>(record->begin + kHash);
  const std::int64_t lengths = record->begin + kRecordHead;
  to.row_offsets.assign(1, 0);
  for (std::int64_t row = 0; row < record->rows; ++row) {
    to.row_offsets.push_back(to.row_offsets.back() +
                             number<std::uint32_t>(lengths + 4 * row));
  }
  const std::int64_t experts = lengths + 4 * record->rows;
  if (width_ == 1) return read_experts<std::uint8_t>(*record, experts, to);
  read_experts<std::uint16_t>(*record, experts, to);
}

void RouteFile::check_shape(const RouteShape& wanted) const {
  if (shape_.layers == wanted.layers &&
      shape_.iterations == wanted.iterations &&
      shape_.experts == wanted.experts && shape_.top_k == wanted.top_k) {
    return;
  }
  const auto text = [](const RouteShape& s) {
    return fmt::format("{} chain layers, {} iterations, {} experts, top_k {}",
                       s.layers, s.iterations, s.experts, s.top_k);
  };
  fail(ErrorKind::kData,
       "{}: offset 12: these are routes of {}; the model has {}", name_,
       text(shape_), text(wanted));
}

}  // namespace catena
