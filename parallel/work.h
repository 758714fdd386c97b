#pragma once

#include <functional>

#include "parallel/communicator.h"

namespace catena {

using Work = std::function<void()>;

/// Does `work`, if this rank has any, on a thread of its own, and returns when
/// all ranks of `all` have done theirs. However long that takes, no deadline
/// passes: meanwhile they say to each other that they are there. They call this
/// together. Throws: what `work` throws; as communicators.
void wait_for_work(Communicator& all, const Work& work);

}  // namespace catena
