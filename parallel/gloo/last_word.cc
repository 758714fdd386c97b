#include "parallel/gloo/last_word.h"

#include <algorithm>

namespace catena::gloo {

void LastWord::set_text(std::string_view why) {
  text_bytes = static_cast<std::uint32_t>(why.copy(text.data(), kTextBytes));
}

std::string LastWord::why() const {
  return {text.data(), std::min<std::size_t>(text_bytes, kTextBytes)};
}

Farewell::Farewell(const Mesh& mesh, int peer) : peer_(peer) {
  in_.buffer = mesh.buffer(Way::kIn, peer, &in_.content, sizeof in_.content);
  out_.buffer =
      mesh.buffer(Way::kOut, peer, &out_.content, sizeof out_.content);
  in_.buffer->recv(peer, slot(Use::kLastWord, 0, 0));
  for (const Way way : kWays) {
    Place<char>& never = never_[static_cast<std::size_t>(way)];
    never.buffer = mesh.buffer(way, peer, &never.content, sizeof never.content);
    never.buffer->recv(peer, slot(Use::kNever, 0, 0));
  }
}

void Farewell::say(const LastWord& word) noexcept {
  out_.content = word;
  out_.content.mark = mark_of(0);
  try {
    out_.buffer->send(peer_, slot(Use::kLastWord, 0, 0));
    said_ = true;
  } catch (const std::exception&) {
    // The connection is lost: that says it, too.
  }
}

void Farewell::wait_until_written(std::chrono::milliseconds most) noexcept {
  if (!said_) return;
  try {
    (void)out_.buffer->waitSend(most);
  } catch (const std::exception&) {
    // As above.
  }
}

bool Farewell::heard() {
  if (heard_ || !has_come(in_.content.mark, 0)) return heard_;
  (void)in_.buffer->waitRecv(kSoon);
  heard_ = true;
  return true;
}

void Farewell::look_for_loss(Way way) {
  Buffer& never = *never_[static_cast<std::size_t>(way)].buffer;
  never.abortWaitRecv();
  (void)never.waitRecv(kSoon);
}

}  // namespace catena::gloo
