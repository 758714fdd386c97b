#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace catena {

/// A number that TensorBoard draws: tags with one word before the first slash
/// stand together.
struct Scalar {
  std::string tag;
  double value = 0;  ///< is rounded to 32 bits
};

/// A file that TensorBoard reads, FOLDER/events.out.tfevents.SECONDS.HOST.
/// PROCESS.0: records (framed()) of messages of proto/tensorboard.proto. A
/// folder may hold several, of one run's starts; their names are ordered as
/// they were made.
/// Each record is one write(): it can be read at once, and is what a reader
/// sees even where this process is killed. One that cannot be written (the disk
/// is full) is left out whole, the first time with a warning. Nothing throws:
/// a run does not end for it.
/// Thread rule: one thread.
/// Source: tensorflow/tensorboard, compat/proto/event.proto, and
/// tensorflow/core/lib/io/record_writer.h.
class EventFile {
 public:
  /// Makes the folder and a file. What the folder's other files say of step
  /// `first_step` and later ones is void from now on.
  EventFile(const std::filesystem::path& folder, std::int64_t first_step);
  ~EventFile();
  EventFile(const EventFile&) = delete;
  EventFile& operator=(const EventFile&) = delete;

  /// One record.
  void write(std::int64_t step, std::span<const Scalar> scalars);
  /// The run goes back: what was said of `step` and later ones is void.
  void restart(std::int64_t step);

 private:
  void append(std::string_view message);
  void warn(const char* what);

  std::filesystem::path path_;
  int descriptor_ = -1;    ///< -1: there is no file
  std::int64_t size_ = 0;  ///< of whole records
  bool warned_ = false;
};

/// A record: u64 length, its masked CRC, data, their masked CRC (u32 each,
/// little-endian). CRC-32C, turned right by 15 bits, + 0xa282ead8.
[[nodiscard]] std::string framed(std::string_view data);

}  // namespace catena
