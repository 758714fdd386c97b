#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "launcher/binding.h"
#include "launcher/messages.h"
#include "launcher/preflight/probes.h"

namespace catena::launcher::control {

/// Both ways, so that each end knows that the other is there.
struct Heartbeat {};

/// Launcher to agent, once and before any command: what its ranks are started
/// with.
struct Setup {
  std::string program;
  std::vector<std::string> arguments = {};    ///< the program's own name first
  std::vector<std::string> environment = {};  ///< NAME=VALUE, over its own
  std::string token;                          ///< that the job's ranks share
  std::string run;                            ///< the run's folder, absolute
  std::string directory;                      ///< that ranks start in
  std::chrono::milliseconds grace{0};
  std::chrono::milliseconds section_timeout{0};  ///< 0: learned
  int console_rank = -1;                         ///< as RankSetup::console_rank
  Bind bind = Bind::kNone;
  RankShare share = {};  ///< this agent's, where ranks are bound

  friend bool operator==(const Setup&, const Setup&) = default;
};

/// What one sealed frame says. A report's `agent` is not said: it is known from
/// the handshake.
using Message = std::variant<Heartbeat, Setup, Command, Report, Probe, Probed>;

/// The most there may be of each thing; read() refuses more.
inline constexpr int kMaxRanks = 65536, kMaxTexts = 4096;
inline constexpr std::size_t kMaxPathBytes = 4096, kMaxTextBytes = 128 * 1024,
                             kMaxNameBytes = 320, kMaxLastWords = 8192;

/// catena.proto's Envelope as bytes. A report's last words are cut where it
/// would not fit a frame with them.
/// Throws: InvalidArgument where it would not in any case (a Setup).
[[nodiscard]] std::string write(const Message& message);

/// Throws: Data, naming the field, on what write() would not have written:
/// unknown kinds, numbers out of range, more or longer than allowed.
[[nodiscard]] Message read(std::string_view bytes);

}  // namespace catena::launcher::control
