#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/base/config.h"

namespace catena {

/// `[launch]`: how `catena launch` starts, watches and restarts ranks. It is
/// declared here, below both programs, because the launcher goes by it and the
/// trainer checks the file that it stands in; training itself reads none of it.
/// 0 and "": not said. Times are in seconds.
struct LaunchConfig {
  static constexpr const char* kSection = "launch";

  std::int64_t ranks = 0;
  std::string engine = "auto";  ///< auto | local | ssh | slurm | mpi
  std::string hosts, hostfile;
  std::int64_t agents = 0;
  std::string nnodes, nproc_per_node;
  double rejoin_timeout = 30;
  std::vector<std::string> env;  ///< NAME=VALUE, or NAME
  std::string bind = "none";     ///< none | core | numa
  std::string address;
  std::string tls = "auto";  ///< auto | on | off
  double lease = 10;
  bool preflight = true, exclude_slow = false;
  double preflight_timeout = 30;
  std::int64_t max_restarts = 3;
  double grace_period = 30, start_timeout = 600, section_timeout = 0,
         time_limit = 0;
  bool dashboard = true;
  std::int64_t dashboard_port = 0;
  std::string dashboard_address = "127.0.0.1";
  bool resume = false;
  std::string init_from, trace;
};

/// Declares every key of the section. Flags and variables are made of the
/// keys, too (launcher/commands/launch_options.h), so that none is forgotten.
void describe(config::Schema& schema, LaunchConfig& launch);

/// What a type and a range do not say: `address` is numeric, `env` names
/// variables, and none of Catena's own.
void check(config::Schema& schema, const LaunchConfig& launch);

}  // namespace catena
