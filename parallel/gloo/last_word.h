#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "parallel/gloo/line.h"
#include "parallel/transport.h"

namespace catena::gloo {

/// What a rank says last: that it has ended, and how many messages it has
/// received on each lane, or who gave up and why.
struct alignas(64) LastWord {
  static constexpr std::size_t kTextBytes = 920;
  enum class Kind : std::uint32_t { kEnded, kGaveUp };
  Kind kind = Kind::kEnded;
  std::int32_t origin = 0;  ///< the rank that gave up first, as far as known
  std::array<std::uint64_t, Transport::kLanes> received{};
  std::uint32_t text_bytes = 0;
  std::array<char, kTextBytes> text{};  ///< why; its beginning, if it is long
  std::array<unsigned char, 27> unused{};
  unsigned char mark = 0;

  void set_text(std::string_view why);
  [[nodiscard]] std::string why() const;
};
static_assert(sizeof(LastWord) == 1024);

/// The last words between this rank and another, and whether there still is a
/// connection. A place to receive one is there from the start, so that it
/// waits for nothing.
class Farewell {
 public:
  Farewell(const Mesh& mesh, int peer);

  /// Once; does not throw when it cannot be said.
  void say(const LastWord& word) noexcept;
  [[nodiscard]] bool said() const { return said_; }
  /// Waits until Gloo has written what was said, at most that long; beyond it
  /// the connections that go as this one are closed.
  void wait_until_written(std::chrono::milliseconds most) noexcept;

  /// Whether the peer has said its last word: content().
  [[nodiscard]] bool heard();
  [[nodiscard]] const LastWord& content() const { return in_.content; }
  /// Throws: what Gloo says, when there is no connection any more.
  void look_for_loss(Way way);

 private:
  int peer_;
  Place<LastWord> in_, out_;
  std::array<Place<char>, 2> never_;  ///< on the connection of each Way
  bool said_ = false, heard_ = false;
};

}  // namespace catena::gloo
