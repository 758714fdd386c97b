#include "training/member.h"

#include <algorithm>
#include <cstdlib>

#include "launcher/contract.h"
#include "parallel/file_store.h"
#include "parallel/gloo/transport.h"
#include "parallel/joined/transport.h"
#include "parallel/shared_memory/transport.h"
#include "runtime/base/error.h"
#include "training/failure.h"

namespace catena {
namespace {

using Seconds = std::chrono::duration<double>;

constexpr const char* kLoopback = "127.0.0.1";

/// Over the wire that `start` says, once all have met. What a rank leaves in
/// /dev/shm when it is killed meanwhile is its job's, see launcher/contract.h.
void connect(Member& member, const RankStart& start, Seconds deadline) {
  tcp::Meeting& meeting = *member.meeting;
  member.ranks_here = meeting.ranks_here();
  if (start.wire == Wire::kSharedMemory && member.ranks_here < start.ranks) {
    fail(ErrorKind::kConfig,
         "parallel.transport = \"shared_memory\" joins ranks of one machine, "
         "but {} of {} are on others than rank {}: set it to \"gloo\"",
         start.ranks - member.ranks_here, start.ranks, start.rank);
  }
  const std::string token = start.job + meeting.name();
  try {
    if (start.wire == Wire::kSharedMemory) {
      member.transport =
          shared_memory::join(meeting.store(), start.rank, start.ranks,
                              {.token = token, .deadline = deadline});
    } else {
      member.transport =
          joined::connect(start.rank, start.ranks, meeting.store(),
                          {.address = meeting.own_address(),
                           .token = token,
                           .node = start.node,
                           .deadline = deadline});
    }
  } catch (...) {
    // They may have no parent that would do it for one that was killed.
    try {
      shared_memory::sweep(token);
    } catch (const Error&) {  // what is thrown below says why
    }
    throw;
  }
}

Member join_by_mpi(Seconds deadline) {
  Member member;
  member.mpi = std::make_unique<mpi::Runtime>();
  member.transport =
      mpi::connect({.deadline = deadline, .exit_code = kExitInternal});
  if (const char* here = std::getenv("OMPI_COMM_WORLD_LOCAL_SIZE")) {
    member.ranks_here = std::max(1, std::atoi(here));
  }
  return member;
}

Member join_or_say(const std::function<Member()>& join) {
  try {
    return join();
  } catch (const Error& error) {
    if (error.kind() == ErrorKind::kTimeout ||
        error.kind() == ErrorKind::kCommunication) {
      throw NotAssembled(error.kind(), error.what());
    }
    throw;
  }
}

}  // namespace

Member join(const Sibling& sibling) {
  Member member;
  member.ranks_here = sibling.ranks;
  auto files = std::make_unique<FileStore>(sibling.folder);
  if (sibling.wire == Wire::kSharedMemory) {
    member.transport = shared_memory::join(
        *files, sibling.rank, sibling.ranks,
        {.token = sibling.token, .deadline = sibling.deadline});
    member.store = std::move(files);
    return member;
  }
  std::unique_ptr<tcp::StoreServer> server;
  if (sibling.rank == 0) {
    server = std::make_unique<tcp::StoreServer>(kLoopback, 0,
                                                tcp::Secret(sibling.token));
    files->set("port", fmt::format("{}", server->port()));
  }
  const int port = std::stoi(files->get("port", sibling.deadline));
  member.meeting = std::make_unique<tcp::Meeting>(
      tcp::Meeting::Options{.rank = sibling.rank,
                            .size = sibling.ranks,
                            .at = {kLoopback, static_cast<std::uint16_t>(port)},
                            .token = sibling.token,
                            .deadline = sibling.deadline},
      std::move(server));
  // Those who ask for Gloo inside one machine want what is between several.
  member.transport = gloo::connect(
      sibling.rank, sibling.ranks, member.meeting->store(),
      {.address = member.meeting->own_address(), .deadline = sibling.deadline});
  return member;
}

Member join(const RankStart& start, Seconds deadline) {
  if (start.kind == RankStart::Kind::kMpi) return join_by_mpi(deadline);
  Member member;
  const tcp::Meeting::Options options{.rank = start.rank,
                                      .size = start.ranks,
                                      .at = start.store,
                                      .token = start.token,
                                      .deadline = deadline};
  member.meeting = start.listener < 0
                       ? std::make_unique<tcp::Meeting>(options)
                       : std::make_unique<tcp::Meeting>(
                             options, std::make_unique<tcp::StoreServer>(
                                          tcp::adopt_listener(start.listener),
                                          tcp::Secret(start.token)));
  connect(member, start, deadline);
  return member;
}

int live_as_member(const std::function<Member()>& join,
                   const std::function<int(Member&)>& work) {
  Member member = join_or_say(join);
  try {
    return work(member);
  } catch (...) {
    if (!member.transport->abandons_by_exit()) {
      member.transport->abandon(explain(std::current_exception()).text);
    }
    throw;
  }
}

}  // namespace catena
