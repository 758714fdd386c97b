#pragma once

/// The page that launcher and training share: exit codes and names in the
/// environment. Constants only; nothing else of the launcher is seen by
/// training.

namespace catena {

/// Exit codes. A scheduler decides by code alone: 69 and 75 mean "requeue",
/// all others listed here mean "do not". 1 to 63 are a rank's own, 128 + n is
/// death by signal n.
enum ExitCode : int {
  kExitSuccess = 0,
  kExitUsage = 64,         ///< wrong command line
  kExitData = 65,          ///< missing or malformed input file
  kExitNotAssembled = 69,  ///< ranks did not find each other in time: requeue
  kExitInternal = 70,      ///< a bug in Catena
  kExitDoesNotFit = 71,    ///< not enough memory for this configuration
  kExitStorage = 74,       ///< cannot write results: disk full, read-only
  kExitPreempted = 75,     ///< stopped on request, state saved: requeue
  kExitNonFinite = 76,     ///< loss or gradient not finite
  kExitConfig = 78,        ///< configuration refused
  kExitNotFound = 127,     ///< program to run was not found
};

/// The program that trains, found beside `catena` or on PATH.
inline constexpr const char* kTrainerName = "catena-train";
/// Environment: the path of the trainer, before all other places.
inline constexpr const char* kTrainerVariable = "CATENA_TRAIN";

/// Environment of a rank that is a process of its own: which one of how many
/// it is, where rank 0 is met ("host:port"), and what all of them know and
/// nobody else does (or a file that holds it).
inline constexpr const char* kRankVariable = "CATENA_RANK";
inline constexpr const char* kWorldSizeVariable = "CATENA_WORLD_SIZE";
inline constexpr const char* kRendezvousVariable = "CATENA_RENDEZVOUS";
inline constexpr const char* kTokenVariable = "CATENA_TOKEN";
inline constexpr const char* kTokenFileVariable = "CATENA_TOKEN_FILE";

}  // namespace catena
