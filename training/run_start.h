#pragma once

#include <chrono>
#include <functional>

#include "parallel/transport.h"
#include "training/run_folder.h"
#include "training/trainer.h"

namespace catena {

/// Where a run writes, and what it begins with.
struct RunStart {
  RunFolder run;
  TrainerStart start;
};

/// Rank 0 decides; the others hear of it, and see that the folder is the same
/// to them, as checkpoints need it.
/// Throws: what decide() throws, on rank 0; Config where a rank does not see
/// rank 0's folder; Timeout and Communication as Communicator.
[[nodiscard]] RunStart agree_on_start(Transport& transport,
                                      std::chrono::duration<double> deadline,
                                      const std::function<RunStart()>& decide);

}  // namespace catena
