#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/binding.h"

namespace catena::launcher {

/// How a rank's process is started.
struct RankProgram {
  std::filesystem::path path;
  std::vector<std::string> arguments;    ///< the program's own name first
  std::vector<std::string> environment;  ///< "NAME=VALUE", all of it
  std::filesystem::path log = {};        ///< both outputs are appended to it
  /// Or, where there is no log, these are its outputs.
  int output = -1, error = -1;
  std::vector<int> descriptors = {};  ///< that it inherits, by these numbers
  /// Where alone it runs, all of its threads; none: where the caller may.
  Processors processors = {};
};

/// A process that has been started, or why not.
struct Spawned {
  int process = 0;  ///< 0: it was not
  /// Then kExitNotFound or kExitNotExecutable, kExitStorage where its log
  /// cannot be written, or kExitInternal: another time it may be.
  int code = 0;
  std::string why = {};
};

/// Starts it in a session and process group of its own, with empty standard
/// input, default signals, no other descriptors, and SIGKILL to come when the
/// thread that calls this ends, however it ends.
/// Thread rule: a thread that lives as long as the program.
[[nodiscard]] Spawned spawn(const RankProgram& program);

/// Kills and reaps children of this process until there are none: with
/// adopt_orphans(), all that ranks may have left. Two seconds at most.
void sweep_children();
/// Removes the names that ranks of this job have left in shared memory, none of
/// which lives any more: see launcher/contract.h.
void remove_shared_memory(std::string_view job);
/// From now on processes whose parent dies become children of this one.
void adopt_orphans();

/// The last lines of a file from `offset` on, at most `most` bytes of them,
/// whole ones where there are several; without a newline at the end.
[[nodiscard]] std::string tail_of(const std::filesystem::path& path,
                                  std::int64_t offset, std::int64_t most);

}  // namespace catena::launcher
