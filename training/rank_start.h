#pragma once

#include <functional>
#include <string>

#include "parallel/tcp/endpoint.h"

namespace catena {

/// By what ranks are joined: parallel.transport.
enum class Wire { kSharedMemory, kGloo, kMpi };

/// What command line and environment say of ranks.
struct RankOptions {
  int ranks = 0;  ///< --ranks; 0: not said
  /// Of a process that is one rank; -1, 0 and "": not said.
  int rank = -1, world_size = 0;
  std::string rendezvous = {}, token_file = {};
};

/// How the ranks of a run come to be.
struct RankStart {
  enum class Kind {
    kAlone,    ///< there is one
    kForked,   ///< this process starts all of them
    kMeeting,  ///< this process is one, and finds the others at rank 0's store
    kMpi,      ///< mpirun or srun started this process, which is one
  };
  Kind kind = Kind::kAlone;
  Wire wire = Wire::kSharedMemory;
  int rank = 0, ranks = 1;  ///< of kMpi: not known before it is joined
  tcp::Endpoint store = {};
  std::string token = {};
  std::string job = {};  ///< of a launcher; letters and digits, or ""
  /// Which node this rank is on, in the words of who started it; "": those
  /// ranks that say nothing share one if they can share memory.
  std::string node = {};
  int listener = -1;  ///< of rank 0: a descriptor that listens there already
};

/// A variable of the environment, or null.
using Environment = std::function<const char*(const char*)>;

/// Decides that. `transport` is parallel.transport. With "auto", ranks that
/// mpirun or srun started are joined by MPI; those that were given an address,
/// by Gloo; those that this process starts, by shared memory.
/// Where `said` names no rank, RANK and WORLD_SIZE do, or Open MPI's, PMI's
/// or Slurm's own variables (the first pair of which both are set); where it
/// names no address, MASTER_ADDR and MASTER_PORT; of a known number of ranks,
/// JOB_COMPLETION_INDEX says which.
/// Throws: Usage, where options are missing, contradict each other or do not
/// go with the transport; Config (address, token, number); Unsupported when
/// that wire is not built in; Data when the file of the token cannot be read.
[[nodiscard]] RankStart plan_ranks(const RankOptions& said,
                                   const std::string& transport,
                                   const Environment& environment);

}  // namespace catena
