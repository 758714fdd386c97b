// Ranks of MPI of which one does what it should not; mpirun has to end them
// all, and to say why. The argument says what: see
// tests/parallel/CMakeLists.txt

#include <csignal>
#include <cstdio>
#include <string_view>
#include <thread>
#include <vector>

#include "parallel/communicator.h"
#include "parallel/mpi/transport.h"
#include "runtime/base/error.h"

namespace catena {
namespace {

using namespace std::chrono_literals;

void run(std::string_view fault) {
  const auto transport = mpi::connect({.exit_code = 7});
  const bool guilty = transport->rank() == 1;
  Communicator all(*transport,
                   Communicator::Deadline(fault == "stall" ? 1 : 60));
  std::vector<double> x(100000);
  Tag tag{.phase = Phase::kDispatch, .layer = 3};
  wait(all.barrier({}));
  if (guilty && fault == "abandon") transport->abandon("a bad shard");
  if (guilty && fault == "throw") fail(ErrorKind::kData, "a bad shard");
  if (guilty && fault == "kill") std::raise(SIGKILL);
  if (guilty && fault == "stall") std::this_thread::sleep_for(20s);
  if (guilty && fault == "tag") tag.layer = 4;
  const std::int64_t bytes = guilty && fault == "bytes" ? 404000 : 400000;
  wait(all.broadcast(tag, 1, x.data(), bytes));
  wait(all.barrier({}));
}

}  // namespace
}  // namespace catena

int main(int, char** argv) {
  try {
    const catena::mpi::Runtime runtime;
    catena::run(argv[1]);
    std::puts("nobody noticed");
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
