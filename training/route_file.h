#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "runtime/base/files.h"
#include "training/config.h"

namespace catena {

/// What a file of routes is of.
struct RouteShape {
  std::int64_t layers = 1;  ///< with a chain; dense ones do not count
  std::int64_t iterations = 1, experts = 1, top_k = 1;
  bool forced_balanced = false;  ///< experts were dealt out, not chosen

  [[nodiscard]] static RouteShape of(const ModelConfig& model);
  /// Choices of one token in all layers and iterations.
  [[nodiscard]] std::int64_t choices() const {
    return layers * iterations * top_k;
  }
};

/// The experts that all tokens of one step chose.
struct RoutedStep {
  std::int64_t step = 0;                     ///< of the run, from 1
  std::uint64_t tokens_hash = 0;             ///< hash64() of the ids, int32
  std::vector<std::int64_t> row_offsets{0};  ///< [rows + 1], of the batch
  /// [layers, iterations, tokens, top_k], in the order of the global batch.
  std::vector<std::int32_t> experts;

  [[nodiscard]] std::int64_t tokens() const { return row_offsets.back(); }
  /// [top_k] experts of a token; further tokens follow.
  [[nodiscard]] std::int32_t* at(const RouteShape& shape, std::int64_t layer,
                                 std::int64_t iteration, std::int64_t token) {
    return experts.data() +
           ((layer * shape.iterations + iteration) * tokens() + token) *
               shape.top_k;
  }
};

/// Routes of some steps in a file, version 1. Numbers are little-endian.
///
///   offset  type
///   0       char[8]   "CATROUTE"
///   8       u32       version, 1
///   12      u32 x 4   layers, iterations, experts, top_k
///   28      u32       bytes of an expert's number: 1 up to 256 experts, else 2
///   32      u32       1: experts were dealt out (force_balanced); else 0
///   36      u32       0
///   40      u64       xxh3 of the bytes 0 to 40
///
/// then, of each step, ascending,
///
///   u64            step, from 1
///   u64            xxh3 of the batch's token ids, int32 each
///   u64            rows
///   u32 [rows]     tokens of each row
///   u8 or u16      [layers, iterations, tokens, top_k] experts
///   u64            xxh3 of this record up to here
///
/// and, after the last, u64 0, u64 number of steps, u64 xxh3 of these two.
/// Weights are not written: they follow from the scores and the experts, in
/// the run that replays no less than in the one that was recorded.
/// Thread rule: one thread.
class RouteFileWriter {
 public:
  /// The file appears with finish(), whole.
  /// Throws: Error(kIo).
  RouteFileWriter(const std::filesystem::path& path, const RouteShape& shape);

  /// Throws: InvalidArgument if steps do not ascend or `step` has another
  /// shape.
  void write(const RoutedStep& step);
  void finish();
  [[nodiscard]] std::int64_t steps() const { return steps_; }

 private:
  AtomicFile file_;
  RouteShape shape_;
  std::int64_t last_ = 0, steps_ = 0;
  std::string record_;
};

/// Such a file, read. Thread rule: any number of readers.
class RouteFile {
 public:
  /// Throws: Error(kData) that names file and offset where the file is cut
  /// short, damaged, or none of this kind.
  explicit RouteFile(const std::filesystem::path& path);
  /// The same of bytes, which are borrowed.
  RouteFile(std::span<const std::byte> bytes, std::string name);

  [[nodiscard]] const RouteShape& shape() const { return shape_; }
  [[nodiscard]] const std::string& name() const { return name_; }
  /// The steps that it holds, ascending.
  [[nodiscard]] std::vector<std::int64_t> steps() const;

  /// Throws: Error(kData) if the step is not there, or one of its experts does
  /// not exist or is chosen twice.
  void read(std::int64_t step, RoutedStep& to) const;
  /// Throws: Error(kData) unless routes of such a model are in the file.
  void check_shape(const RouteShape& wanted) const;

 private:
  /// Where a step's record begins, and what is known of it.
  struct Record {
    std::int64_t step, begin, rows, tokens;
  };
  void parse();
  void parse_header();
  [[nodiscard]] Record parse_record(std::int64_t begin) const;
  void parse_end(std::int64_t begin) const;
  [[nodiscard]] std::int64_t size() const {
    return static_cast<std::int64_t>(bytes_.size());
  }
  void need(std::int64_t begin, std::int64_t count, const char* what) const;
  void check_hash(std::int64_t begin, std::int64_t end, const char* what) const;
  template <class T>
  [[nodiscard]] T number(std::int64_t begin) const;
  template <class T>
  void read_experts(const Record& record, std::int64_t begin,
                    RoutedStep& to) const;

  MappedFile mapped_;
  std::span<const std::byte> bytes_;
  std::string name_;
  RouteShape shape_;
  std::int64_t width_ = 1;
  std::vector<Record> records_;
};

}  // namespace catena
