// Any bytes as a file of routes: what it says, or an Error. 'H' puts fitting
// hashes into a file of one step: the rest is six numbers of the shape and the
// step, and then experts.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "runtime/base/error.h"
#include "runtime/base/hash.h"
#include "training/route_file.h"

namespace {

void append_hash(std::string& bytes, std::size_t begin) {
  const std::uint64_t hash =
      catena::hash64(std::string_view(bytes).substr(begin));
  bytes.append(reinterpret_cast<const char*>(&hash), sizeof hash);
}

template <class T>
void append(std::string& bytes, T value) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
}

std::string with_hashes(std::string_view text) {
  constexpr std::size_t kNumbers = 6;
  if (text.size() < kNumbers) return std::string(text);
  const auto number = [&](std::size_t i) {
    return static_cast<std::uint32_t>(static_cast<unsigned char>(text[i]));
  };
  std::string bytes = "CATROUTE";
  append<std::uint32_t>(bytes, 1);
  for (std::size_t i = 0; i < 4; ++i) append<std::uint32_t>(bytes, number(i));
  append<std::uint32_t>(bytes, 1);
  append<std::uint64_t>(bytes, 0);
  append_hash(bytes, 0);
  const std::size_t begin = bytes.size();
  append<std::uint64_t>(bytes, number(4));
  append<std::uint64_t>(bytes, 0);
  append<std::uint64_t>(bytes, 1);
  append<std::uint32_t>(bytes, number(5));
  bytes += text.substr(kNumbers);
  append_hash(bytes, begin);
  const std::size_t end = bytes.size();
  append<std::uint64_t>(bytes, 0);
  append<std::uint64_t>(bytes, 1);
  append_hash(bytes, end);
  return bytes;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  std::string text(reinterpret_cast<const char*>(data), size);
  if (!text.empty() && text[0] == 'H') {
    text = with_hashes(std::string_view(text).substr(1));
  }
  try {
    const catena::RouteFile file(std::as_bytes(std::span(text)), "r");
    catena::RoutedStep step;
    for (const std::int64_t number : file.steps()) {
      file.read(number, step);
      const auto choices =
          static_cast<std::size_t>(step.tokens() * file.shape().choices());
      if (step.experts.size() != choices || step.step != number) std::abort();
      for (const std::int32_t expert : step.experts) {
        if (expert < 0 || expert >= file.shape().experts) std::abort();
      }
    }
  } catch (const catena::Error&) {
  }
  return 0;
}
