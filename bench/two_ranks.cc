#include "bench/two_ranks.h"

#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>

#include "parallel/file_store.h"
#include "runtime/base/error.h"

namespace catena::bench {

namespace fs = std::filesystem;

int run_two_ranks(const std::function<void(const TwoRanks&)>& measure) {
  const auto mpi = MpiExchange::start();
  if (mpi != nullptr && mpi->size() != 2) {
    fmt::print(stderr, "{} ranks, and not two: mpirun -n 2\n", mpi->size());
    return 1;
  }
  // Under mpirun both have the same parent; else this is the parent.
  const std::string token =
      fmt::format("bench{}", mpi != nullptr ? getppid() : getpid());
  const fs::path folder = fs::temp_directory_path() / ("catena-" + token);
  FileStore store(folder);
  const pid_t other = mpi != nullptr ? 0 : fork();
  const int rank = mpi != nullptr ? mpi->rank() : (other == 0 ? 1 : 0);
  try {
    measure({store, token, rank, mpi.get()});
  } catch (const Error& error) {
    fmt::print(stderr, "{}\n", error.what());
    _exit(1);
  }
  if (mpi == nullptr && rank == 1) _exit(0);
  if (mpi == nullptr) waitpid(other, nullptr, 0);
  if (rank == 0) fs::remove_all(folder);
  return 0;
}

}  // namespace catena::bench
