#pragma once

#include <cstdint>

namespace catena::control_line {

/// What a rank tells the launcher's agent that started it, over the pipe that
/// kControlVariable of launcher/contract.h names; without one, nothing is said.
/// Nothing here throws, and a launcher that does not listen holds up nobody:
/// sections are said later then, steps and waits not at all, and anything else
/// waits a second at most. Once it is gone nothing is said any more.
/// Thread rule: any thread.

/// Takes the pipe from the environment, and says kSectionStart. Programs that
/// this one starts later have neither the variable nor the pipe. From now on
/// SIGUSR2 is answered with a stack, SIGUSR1 noted (training/stop.h), and what
/// this rank waits for in exchanges (parallel/wait_listener.h) is said.
void open();

/// Whether there is somebody to tell, as far as is known.
[[nodiscard]] bool is_open();

/// kSaidJoined, kSaidDone, kSaidLost and perhaps an exchange, or kSaidRun and a
/// path.
void say(const char* word);

/// That it does this from now on: one of contract.h, which lives on. Costs
/// nothing where that is what it does already.
void say_section(const char* section);

/// That a step was taken; said ten times a second at most.
void say_step(std::int64_t step);

}  // namespace catena::control_line
