// Any bytes as what a client or a server of the store says, in pieces of any
// length: frames, each of which says the same when it is written again, or
// Error(kData). What is held stays below one frame and a piece.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "parallel/tcp/frame.h"
#include "runtime/base/error.h"

namespace {

using catena::tcp::Frame;
using catena::tcp::FrameReader;

constexpr std::size_t kMostHeld =
    Frame::kHeaderBytes + Frame::kMaxKeyBytes + Frame::kMaxValueBytes;

/// What the frames say, one after another, and '!' where it ended in an error.
std::string read(std::string_view bytes, std::size_t piece) {
  FrameReader reader;
  std::string said;
  try {
    for (std::size_t at = 0; at < bytes.size(); at += piece) {
      reader.add(bytes.substr(at, piece));
      while (const auto frame = reader.next()) said += frame->bytes();
      if (reader.held() > kMostHeld) std::abort();
    }
  } catch (const catena::Error& error) {
    if (error.kind() != catena::ErrorKind::kData) std::abort();
    return said + "!";
  }
  return said;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1,
                               size - 1);
  const std::string whole = read(bytes, std::max<std::size_t>(1, bytes.size()));
  if (read(bytes, data[0] % 16 + 1U) != whole) std::abort();
  const std::string_view said(whole.data(),
                              whole.size() - (whole.ends_with('!') ? 1 : 0));
  // A value may end in '!' itself; then the prefix is one byte longer.
  if (!bytes.starts_with(said) && !bytes.starts_with(whole)) std::abort();
  return 0;
}
