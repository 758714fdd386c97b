#pragma once

#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "parallel/mpi/transport.h"
#include "parallel/store.h"
#include "parallel/tcp/meeting.h"
#include "parallel/transport.h"
#include "training/rank_start.h"

namespace catena {

/// A rank that has joined the others, and what it needs for as long as it is
/// one of them. Made, used and destroyed by one thread.
struct Member {
  std::unique_ptr<mpi::Runtime> mpi;
  std::unique_ptr<tcp::Meeting> meeting;
  std::unique_ptr<Store> store;
  std::unique_ptr<Transport> transport;  ///< the first to go
  int ranks_here = 1;                    ///< that share this machine's cores
};

/// A rank among processes of one parent, which tells all the same.
struct Sibling {
  Wire wire = Wire::kSharedMemory;
  int rank = 0, ranks = 1;
  std::filesystem::path folder = {};  ///< where they leave word; there already
  std::string token = {};  ///< letters and digits; of this start alone
  std::chrono::duration<double> deadline{60};  ///< for all to join
};
/// Throws: as shared_memory::join(), or Meeting and gloo::connect().
[[nodiscard]] Member join(const Sibling& sibling);

/// A rank that was started by itself, or by mpirun: as plan_ranks() says.
/// Throws: as Meeting, joined::connect(), shared_memory::join(),
/// mpi::connect(); Config when shared memory would have to join several
/// machines.
[[nodiscard]] Member join(const RankStart& start,
                          std::chrono::duration<double> deadline);

/// Joins, and returns what work(member) does. Where that throws, the others
/// are told why (MPI ends them when this process has ended).
/// Throws: what they throw; NotAssembled where ranks did not find each other.
int live_as_member(const std::function<Member()>& join,
                   const std::function<int(Member&)>& work);

}  // namespace catena
