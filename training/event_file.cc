#include "training/event_file.h"

#include <fcntl.h>
#include <tensorboard.pb.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <boost/crc.hpp>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstring>
#include <ctime>
#include <utility>

#include "runtime/base/log.h"

namespace catena {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrefix = "events.out.tfevents.";
constexpr std::size_t kDigits = 10;  // of the seconds in a name
constexpr const char* kVersion = "brain.Event:2";

std::uint32_t masked_crc(std::string_view data) {
  boost::crc_optimal<32, 0x1EDC6F41, 0xFFFFFFFF, 0xFFFFFFFF, true, true> crc;
  crc.process_bytes(data.data(), data.size());
  constexpr std::uint32_t kMask = 0xa282ead8;
  constexpr int kTurn = 15;
  return std::rotr(static_cast<std::uint32_t>(crc.checksum()), kTurn) + kMask;
}

template <class Number>
std::string little_endian(Number number) {
  std::string bytes;
  for (std::size_t i = 0; i < sizeof number; ++i) {
    bytes += static_cast<char>(number >> (8 * i));
  }
  return bytes;
}

/// Now, or later than all files of the folder: readers take them by name.
std::int64_t seconds_for_name(const fs::path& folder) {
  std::int64_t seconds = std::time(nullptr);
  std::error_code none;
  for (const auto& entry : fs::directory_iterator(folder, none)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(kPrefix)) continue;
    const std::string digits = name.substr(kPrefix.size(), kDigits);
    std::int64_t of_file = 0;
    std::from_chars(digits.data(), digits.data() + digits.size(), of_file);
    seconds = std::max(seconds, of_file + 1);
  }
  return seconds;
}

fs::path path_of_new(const fs::path& folder) {
  std::array<char, 256> host{};
  ::gethostname(host.data(), host.size() - 1);
  return folder / fmt::format("{}{:0{}}.{}.{}.0", kPrefix,
                              seconds_for_name(folder), kDigits, host.data(),
                              ::getpid());
}

tensorboard::Event event_of(std::int64_t step) {
  const std::chrono::duration<double> now =
      std::chrono::system_clock::now().time_since_epoch();
  tensorboard::Event event;
  event.set_wall_time(now.count());
  event.set_step(step);
  return event;
}

}  // namespace

std::string framed(std::string_view data) {
  const std::string length =
      little_endian(static_cast<std::uint64_t>(data.size()));
  return length + little_endian(masked_crc(length)) + std::string(data) +
         little_endian(masked_crc(data));
}

EventFile::EventFile(const fs::path& folder, std::int64_t first_step) {
  std::error_code code;
  fs::create_directories(folder, code);
  path_ = path_of_new(folder);
  if (!code) {
    descriptor_ =
        ::open(path_.c_str(),
               O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0666);
  }
  if (descriptor_ < 0) {
    warn(code ? code.message().c_str() : std::strerror(errno));
    return;
  }
  tensorboard::Event event = event_of(0);
  event.set_file_version(kVersion);
  append(event.SerializeAsString());
  restart(first_step);
}

EventFile::~EventFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void EventFile::restart(std::int64_t step) {
  tensorboard::Event event = event_of(step);
  event.mutable_session_log()->set_status(tensorboard::SessionLog::START);
  append(event.SerializeAsString());
}

void EventFile::write(std::int64_t step, std::span<const Scalar> scalars) {
  if (descriptor_ < 0) return;
  tensorboard::Event event = event_of(step);
  for (const Scalar& scalar : scalars) {
    auto& value = *event.mutable_summary()->add_value();
    value.set_tag(scalar.tag);
    value.set_number(static_cast<float>(scalar.value));
  }
  append(event.SerializeAsString());
}

void EventFile::append(std::string_view message) {
  if (descriptor_ < 0) return;
  const std::string record = framed(message);
  const ssize_t written = ::write(descriptor_, record.data(), record.size());
  if (written == static_cast<ssize_t>(record.size())) {
    size_ += written;
    return;
  }
  warn(written < 0 ? std::strerror(errno) : "no room for a whole record");
  // Behind a piece of a record a reader finds none of the later ones.
  if (written > 0 && ::ftruncate(descriptor_, size_) != 0) {
    ::close(std::exchange(descriptor_, -1));
  }
}

void EventFile::warn(const char* what) {
  if (std::exchange(warned_, true)) return;
  log::warning("{}: cannot write: {}; training goes on without", path_.string(),
               what);
}

}  // namespace catena
