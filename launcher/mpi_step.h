#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/rank_layout.h"

namespace catena::launcher {

// Pure functions about a step of mpirun, which is one start of all ranks: what
// it is called with, and what it says. Those of Open MPI 4.

/// How ranks are started.
struct MpiStep {
  RankLayout layout = {};
  bool here = true;  ///< all on this machine, however many that are
  std::vector<std::string> command = {};      ///< of every rank, program first
  std::vector<std::string> environment = {};  ///< names; ranks get their values
};

/// mpirun's arguments, its own name first. Ranks are laid on the hosts in
/// order, bound to nothing, and the lines that they write say whose they are.
/// Throws: Error(kUsage) where a host says a user, which mpirun cannot take.
[[nodiscard]] std::vector<std::string> mpirun_arguments(const MpiStep& step);

/// Open MPI's mpirun on PATH; "": there is none.
[[nodiscard]] std::filesystem::path find_mpirun();

/// A line that mpirun has written.
struct MpiLine {
  int rank = -1;        ///< whose it is; -1: mpirun's own
  bool output = false;  ///< from standard output, not standard error
  std::string_view text;
};
[[nodiscard]] MpiLine parse_mpi_line(std::string_view line);

/// The rank that mpirun says ended first, and how.
struct MpiFailure {
  int rank = 0;
  int code = 0;
  int signal = 0;  ///< 0: it left by itself, or by MPI_Abort()
};
/// `said`: all of mpirun's own lines, as far as they are kept; nothing: it
/// names none.
[[nodiscard]] std::optional<MpiFailure> first_failure(std::string_view said);

}  // namespace catena::launcher
