#pragma once

#include <cstdint>
#include <istream>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace catena::launcher {

/// What the trace of a rank says of itself, see training/timeline.h.
struct TraceHeader {
  int rank = 0, ranks = 0;
  std::int64_t first = 0, last = 0;  ///< steps
  std::int64_t left_out = 0;         ///< events
  std::string host;
  std::int64_t steady_ns = 0, unix_ns = 0;

  bool operator==(const TraceHeader&) const = default;
};

/// A rank's trace, an event at a time, in memory that does not grow with it.
/// The file is foreign: what is passed on is of this form and these sizes, so
/// that times can be added, and events written again, without a thought.
/// Thread rule: one thread.
class TraceReader {
 public:
  using Event = nlohmann::ordered_json;

  /// `name`: of the file, for errors. Reads the header.
  /// Throws: Error(kData) that says in which line something is wrong.
  TraceReader(std::unique_ptr<std::istream> stream, std::string name);

  [[nodiscard]] const TraceHeader& header() const { return header_; }

  /// The next event; false after the last. It is of this rank: "ph" is M or X,
  /// "tid" a number from 0, "name" a text, "ts" and "dur" of an X microseconds
  /// from 0 to kMostMicroseconds. Nothing in it is nested but "args", once.
  /// Throws: as the constructor.
  [[nodiscard]] bool read(Event& event);

  static constexpr double kMostMicroseconds = 1e15;

 private:
  [[nodiscard]] std::string next();
  void read_header();
  void check(const Event& event) const;
  [[noreturn]] void refuse(const char* why) const;

  std::unique_ptr<std::istream> stream_;
  std::string name_;
  TraceHeader header_;
  std::vector<char> line_;
  int number_ = 0;
};

}  // namespace catena::launcher
