// The stream of a control connection. The first byte chooses the limit and what
// the rest is:
//   any bytes, in pieces of any length: the same frames come out however the
//   stream is cut, what is held stays below one frame and a piece, and nothing
//   that was not sealed is opened;
//   messages, each behind its length, a byte, that are sealed and then changed
//   on the way, as two bytes say: what is opened is what was sent, in its
//   order, from the first one on, and all of it only if nothing was changed.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/control/frame.h"
#include "runtime/base/error.h"

namespace {

using namespace catena::launcher::control;
using Texts = std::vector<std::string>;

void expect(bool holds) {
  if (!holds) std::abort();
}

Secret key(char letter) { return Secret(std::string(32, letter)); }

std::size_t number(std::string_view bytes, std::size_t at) {
  return at < bytes.size() ? static_cast<unsigned char>(bytes[at]) : 0;
}

/// Calls taken(content) for every frame. Returns whether the stream ended in no
/// error.
template <class Taken>
bool cut(std::string_view bytes, std::size_t piece, std::size_t most,
         Taken taken) {
  FrameReader reader(most);
  try {
    for (std::size_t at = 0; at < bytes.size(); at += piece) {
      reader.add(bytes.substr(at, piece));
      while (const auto content = reader.next()) taken(*content);
      expect(reader.held() < kLengthBytes + most + piece);
    }
  } catch (const catena::Error& error) {
    expect(error.kind() == catena::ErrorKind::kData);
    return false;
  }
  return true;
}

bool opens(Opener& opener, std::string_view content) {
  try {
    static_cast<void>(opener.open(content));
  } catch (const catena::Error& error) {
    expect(error.kind() == catena::ErrorKind::kData);
    return false;
  }
  return true;
}

void check_any(std::string_view bytes, std::size_t piece, std::size_t most) {
  const auto read = [&](std::size_t each, Texts& contents) {
    // With a key that seals nothing here: the fuzzer learns from comparisons,
    // and would find frames that check_sealed() made.
    Opener opener(key('a'));
    return cut(bytes, each, most, [&](const std::string& content) {
      expect(content.size() <= most && !opens(opener, content));
      contents.push_back(content);
    });
  };
  Texts whole, pieces;
  expect(read(std::max<std::size_t>(1, bytes.size()), whole) ==
         read(piece, pieces));
  expect(whole == pieces);
  std::string again;
  for (const std::string& content : whole) again += frame(content, most);
  expect(bytes.starts_with(again));
}

// --- sealed ------------------------------------------------------------------

Texts seal_all(std::string_view bytes, Texts& messages) {
  Sealer sealer(key('k'));
  Texts frames;
  while (!bytes.empty()) {
    messages.emplace_back(bytes.substr(1, number(bytes, 0)));
    bytes.remove_prefix(std::min(bytes.size(), 1 + messages.back().size()));
    frames.push_back(sealer.seal(messages.back()));
  }
  return frames;
}

/// What somebody on the wire makes of it; "" where that is nothing.
std::string changed(Texts frames, std::size_t how, std::size_t where) {
  const std::size_t at = where % frames.size();
  std::string& frame = frames[at];
  switch (how % 8) {
    case 0:
      frames.erase(frames.begin() + static_cast<std::ptrdiff_t>(at));
      break;
    case 1:
      frames.insert(frames.begin() + static_cast<std::ptrdiff_t>(at), frame);
      break;
    case 2:
      std::swap(frame, frames.back());
      break;
    case 3:
      frame.resize(frame.size() - 1 - how / 8);
      break;
    case 4:
      frame.insert(how / 8, "x");
      break;
    case 5:
      break;
    default: {
      char& byte = frame[where * 31 % frame.size()];
      byte = static_cast<char>(byte ^ (1U << (how / 8 % 8)));
    }
  }
  std::string stream;
  for (const std::string& each : frames) stream += each;
  return stream;
}

void check_sealed(std::string_view bytes, std::size_t piece) {
  if (bytes.size() < 3) return;
  Texts messages;
  const Texts frames = seal_all(bytes.substr(2), messages);
  const std::string stream =
      changed(frames, number(bytes, 0), number(bytes, 1));
  std::string sent;
  for (const std::string& each : frames) sent += each;

  Opener opener(key('k')), other(key('o'));
  std::size_t opened = 0;
  const auto open = [&](const std::string& content) {
    expect(!opens(other, content));
    const std::string_view message = opener.open(content);
    expect(opened < messages.size() && message == messages[opened]);
    ++opened;
  };
  const bool sound = cut(stream, piece, kMaxSealedBytes, open);
  expect(stream != sent || (sound && opened == messages.size()));
  // A stream that was cut short is sound as far as it goes.
  expect(stream == sent || opened < messages.size() || !sound);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1,
                               size - 1);
  const std::size_t piece = data[0] / 4 % 16 + 1U;
  if (data[0] % 4 == 0) {
    check_any(bytes, piece, kMaxGreetingBytes);
  } else if (data[0] % 4 == 1) {
    check_any(bytes, piece, kMaxSealedBytes);
  } else {
    check_sealed(bytes, piece);
  }
  return 0;
}
