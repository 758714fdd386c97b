#pragma once

#include <chrono>
#include <cstdint>
#include <memory>

#include "parallel/transport.h"

namespace catena::mpi {

/// Whether this build has Open MPI.
[[nodiscard]] bool available();
/// Throws: Unsupported, if it has not.
void require();

/// MPI in this process: made before the first transport and destroyed after
/// the last, by the main thread, once a process.
/// The end waits for all ranks. One that comes by an exception does not: then
/// this process has to end soon, and mpirun ends the others.
class Runtime {
 public:
  /// Throws: Unsupported when built without Open MPI, or when this MPI has no
  /// threads; Communication.
  Runtime();
  ~Runtime();
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

 private:
  int exceptions_;
};

struct Options {
  /// To find all others.
  std::chrono::duration<double> deadline{60};
  /// What mpirun ends with when a rank gives up.
  int exit_code = 1;
  /// Longer messages go in pieces of this length: MPI counts in int.
  std::int64_t piece_bytes = 1 << 30;
};

/// Joins the ranks that mpirun started, by a communicator of their own. Every
/// rank makes its transports in the same order.
///
/// A thread moves messages on while this rank computes. abandon() says why,
/// and then ends all ranks (MPI_Abort): it does not return. So does a rank that
/// is in another collective than its peer, or that destroys the transport with
/// messages under way, unless an exception does. One that is gone is noticed by
/// mpirun, one that has ended too early by the deadline of what waits for it.
///
/// Throws: Unsupported when built without Open MPI; Timeout, Communication.
[[nodiscard]] std::unique_ptr<Transport> connect(const Options& options);

}  // namespace catena::mpi
