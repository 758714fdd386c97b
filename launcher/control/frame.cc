#include "launcher/control/frame.h"

#include "runtime/base/error.h"

namespace catena::launcher::control {
namespace {

constexpr unsigned kBitsPerByte = 8;

void put(std::string& bytes, std::uint64_t number, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    bytes += static_cast<char>(number >> (kBitsPerByte * i));
  }
}

std::uint64_t get(std::string_view bytes, std::size_t count) {
  std::uint64_t number = 0;
  for (std::size_t i = 0; i < count; ++i) {
    number |= static_cast<std::uint64_t>(static_cast<unsigned char>(bytes[i]))
              << (kBitsPerByte * i);
  }
  return number;
}

}  // namespace

std::string frame(std::string_view content, std::size_t most) {
  CATENA_CHECK(content.size() <= most,
               "[control] a frame of {} bytes; {} are the most", content.size(),
               most);
  std::string bytes;
  bytes.reserve(kLengthBytes + content.size());
  put(bytes, content.size(), kLengthBytes);
  bytes += content;
  return bytes;
}

std::optional<std::string> FrameReader::next() {
  if (bytes_.size() < kLengthBytes) return std::nullopt;
  const std::size_t length = get(bytes_, kLengthBytes);
  if (length > most_) {
    fail(ErrorKind::kData, "[control] a frame of {} bytes; {} are the most",
         length, most_);
  }
  if (bytes_.size() < kLengthBytes + length) return std::nullopt;
  std::string content = bytes_.substr(kLengthBytes, length);
  bytes_.erase(0, kLengthBytes + length);
  return content;
}

std::string Sealer::seal(std::string_view message) {
  CATENA_CHECK(message.size() <= kMaxMessageBytes,
               "[control] a message of {} bytes; {} are the most",
               message.size(), kMaxMessageBytes);
  std::string bytes;
  bytes.reserve(kLengthBytes + kSealBytes + message.size());
  put(bytes, message.size() + kSealBytes, kLengthBytes);
  put(bytes, sequence_++, kSequenceBytes);
  bytes += message;
  bytes += text_of(key_.mac(bytes));
  return bytes;
}

std::string_view Opener::open(std::string_view content) {
  if (content.size() < kSealBytes) {
    fail(ErrorKind::kData, "[control] a sealed frame of {} bytes, too short",
         content.size());
  }
  const std::string_view signed_part =
      content.substr(0, content.size() - kMacBytes);
  std::string data;
  data.reserve(kLengthBytes + signed_part.size());
  put(data, content.size(), kLengthBytes);
  data += signed_part;
  if (!key_.proves(content.substr(signed_part.size()), data)) {
    fail(ErrorKind::kData, "[control] a frame that the other end did not make");
  }
  const std::uint64_t sequence = get(content, kSequenceBytes);
  if (sequence != sequence_) {
    fail(ErrorKind::kData, "[control] frame {} came where {} was due: {}",
         sequence, sequence_,
         sequence < sequence_ ? "replayed" : "others are missing");
  }
  ++sequence_;
  return signed_part.substr(kSequenceBytes);
}

}  // namespace catena::launcher::control
