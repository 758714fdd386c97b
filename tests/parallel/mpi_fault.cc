// Ranks of MPI of which the last does what it should not; mpirun has to end
// them all, and to say why. Arguments say what, and within which collective:
// see tests/parallel/CMakeLists.txt

#include <chrono>
#include <csignal>
#include <cstdio>
#include <iterator>
#include <string_view>
#include <thread>
#include <vector>

#include "parallel/communicator.h"
#include "parallel/mpi/transport.h"
#include "runtime/base/error.h"
#include "tests/parallel/collective_calls.h"

namespace catena::testing {
namespace {

using namespace std::chrono_literals;

static_assert(std::size(kCalls) == 7, "CMakeLists.txt names each, too");

const Call& call_of(std::string_view name) {
  for (const auto& [known, call] : kCalls) {
    if (name == known) return call;
  }
  fail(ErrorKind::kUsage, "no collective {}", name);
}

/// One collective after another, until the guilty rank is gone or stands still.
void strike(std::string_view fault, const Call& call) {
  const auto transport = mpi::connect({.exit_code = 7});
  const bool guilty = transport->rank() == transport->size() - 1;
  Communicator all(*transport,
                   Communicator::Deadline(fault == "stall" ? 1 : 60));
  std::vector<float> x(20000, 1);
  wait(all.barrier({}));
  for (int round = 0;; ++round) {
    if (guilty && round == 5) {
      if (fault == "stall") std::this_thread::sleep_for(300s);
      // Wherever it is by then.
      std::thread([] {
        std::this_thread::sleep_for(5ms);
        std::raise(SIGKILL);
      }).detach();
    }
    call(all, x);
  }
}

void run(std::string_view fault) {
  const auto transport = mpi::connect({.exit_code = 7});
  const bool guilty = transport->rank() == 1;
  Communicator all(*transport, 60s);
  std::vector<double> x(100000);
  Tag tag{.phase = Phase::kDispatch, .layer = 3};
  wait(all.barrier({}));
  if (guilty && fault == "abandon") transport->abandon("a bad shard");
  if (guilty && fault == "throw") fail(ErrorKind::kData, "a bad shard");
  if (guilty && fault == "tag") tag.layer = 4;
  const std::int64_t bytes = guilty && fault == "bytes" ? 404000 : 400000;
  wait(all.broadcast(tag, 1, x.data(), bytes));
  wait(all.barrier({}));
}

}  // namespace
}  // namespace catena::testing

int main(int count, char** argv) {
  try {
    const catena::mpi::Runtime runtime;
    if (count > 2) {
      catena::testing::strike(argv[1], catena::testing::call_of(argv[2]));
    } else {
      catena::testing::run(argv[1]);
    }
    std::puts("nobody noticed");
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
