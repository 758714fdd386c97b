#pragma once

#include <cstdint>

namespace catena::control_line {

/// What a rank tells the launcher's agent that started it, over the pipe that
/// kControlVariable of launcher/contract.h names; without one, nothing is said.
/// Nothing here throws, and a launcher that does not listen holds up nobody:
/// steps are dropped then, and anything else waits a second at most.
/// Thread rule: any thread.

/// Takes the pipe from the environment. Programs that this one starts later
/// have neither the variable nor the pipe.
void open();

/// kSaidJoined, kSaidDone or kSaidLost.
void say(const char* word);

/// That a step was taken; said ten times a second at most.
void say_step(std::int64_t step);

}  // namespace catena::control_line
