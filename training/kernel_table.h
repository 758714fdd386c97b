#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include "runtime/kernels.h"

namespace catena {

/// What kernels took in a real run on this machine, to foretell what others
/// will: seconds = cost / rate, by FLOPs for products and by bytes for what
/// only moves data. Kept as JSON beside the tokenized data, one file a type,
/// and renewed by every run of ten steps or more.
struct KernelTable {
  struct Entry {
    Cost cost;
    double seconds = 0;
  };
  std::string layout;  ///< processor, threads, type
  std::map<std::string, Entry> kernels;
  double step_seconds = 0;  ///< of all steps, kernels and all else

  [[nodiscard]] double kernel_seconds() const;
  /// What a call takes by this table, times `factor`. Throws: InvalidArgument,
  /// when called for a kernel that is not in it.
  [[nodiscard]] KernelModel model(double factor) const;
  /// Seconds of one step with these costs; nothing if a kernel is not in the
  /// table.
  [[nodiscard]] std::optional<double> foretell(
      const std::map<std::string, Cost>& step) const;
};

[[nodiscard]] std::filesystem::path kernel_table_path(
    const std::filesystem::path& cache, DType dtype);
/// Throws: Error(kIo).
void save(const KernelTable& table, const std::filesystem::path& path);
/// Nothing if there is no such file, or it is of another version.
[[nodiscard]] std::optional<KernelTable> load_kernel_table(
    const std::filesystem::path& path);

}  // namespace catena
