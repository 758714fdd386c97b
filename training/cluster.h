#pragma once

#include <filesystem>
#include <string>

#include "parallel/meta/transport.h"
#include "runtime/kernels.h"

namespace catena {

/// How fast machines are, to foretell runs on them.
struct Cluster {
  std::string name;
  std::int64_t ranks_per_node = 1;
  /// Of one rank's device, FLOPs and bytes a second, and seconds a kernel.
  double peak_flops = 0;  ///< what MFU is a share of
  double gemm_flops = 0, grouped_gemm_flops = 0, attention_flops = 0;
  double memory_bytes_per_second = 0, launch_seconds = 0;
  Link inside, across;

  /// A kernel takes as long as its FLOPs or its bytes do, whichever is longer,
  /// and its launch.
  [[nodiscard]] KernelModel kernels() const;
};

/// Reads a file as configs/clusters/h200x8.toml.
/// Throws: Error(kConfig), naming file, line and key.
[[nodiscard]] Cluster load_cluster(const std::filesystem::path& path);

}  // namespace catena
