#pragma once

#include <memory>

#include "parallel/link.h"
#include "parallel/transport.h"

namespace catena::simulated {

/// Another wire, made slow: what a rank sends leaves one message after another
/// at the link's rate, and reaches `inner` when the link would have brought it.
/// Until then it stays where it is, as in memory that a network card reads; no
/// core is kept busy. Link::takes_core does not apply.
///
/// A message that is due goes on when its sender next calls progress(): between
/// the pieces of kernels, some 50 us late at most.
/// For measurements of what is hidden behind what, and for tests.
[[nodiscard]] std::unique_ptr<Transport> make_transport(
    std::unique_ptr<Transport> inner, const Link& link);

/// Borrows `inner`.
[[nodiscard]] std::unique_ptr<Transport> make_transport(Transport& inner,
                                                        const Link& link);

}  // namespace catena::simulated
