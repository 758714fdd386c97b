#pragma once

#include "launcher/preflight/probes.h"

namespace catena::proto {
class Probe;
class Probed;
}  // namespace catena::proto

namespace catena::launcher::control {

/// Part of envelope.h: the questions of a preflight and their answers.
/// Of a machine's files as many are written as are compared.
void put(const Probe& probe, proto::Probe& to);
void put(const Probed& probed, proto::Probed& to);
/// Throws: as read().
[[nodiscard]] Probe take(const proto::Probe& from);
[[nodiscard]] Probed take(const proto::Probed& from);

}  // namespace catena::launcher::control
