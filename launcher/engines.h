#pragma once

#include <string>
#include <vector>

#include "launcher/hosts.h"

namespace catena::launcher {

/// How agents come to be on other machines: the command, of this machine, that
/// starts one. It has no shell with data in it; what an agent is to know goes
/// over its standard input.

/// `catena agent` by this program itself.
[[nodiscard]] std::vector<std::string> agent_here();

/// `ssh HOST 'PROGRAM agent'` without a password, a terminal or forwarding.
/// PROGRAM is this program's own path, which must be the same there. Whether a
/// host's key is trusted is ssh's own configuration.
/// Throws: Usage where the path holds what a shell could take for more than a
/// word.
[[nodiscard]] std::vector<std::string> agent_by_ssh(const Host& host);

/// The numeric address of this machine from which packets go to these hosts:
/// the first that is not of the loopback, as one of them may be this
/// machine. Not empty.
/// Throws: Usage where a name is unknown or there is no way.
[[nodiscard]] std::string address_towards(const std::vector<Host>& hosts);

}  // namespace catena::launcher
