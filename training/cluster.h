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
  double peak_flops = 0;  ///< of one rank, a second: what MFU is a share of
  KernelModel kernels;    ///< on one rank
  Link inside, across;    ///< a node, and between nodes
};

/// What a rank computes on: FLOPs and bytes a second, and seconds a kernel.
struct Roofline {
  double gemm_flops = 0, grouped_gemm_flops = 0, attention_flops = 0;
  double memory_bytes_per_second = 0, launch_seconds = 0;

  /// A kernel takes as long as its FLOPs or its bytes do, whichever is longer,
  /// and its launch.
  [[nodiscard]] double operator()(std::string_view kernel,
                                  const Cost& cost) const;
};

/// Reads a file as configs/clusters/h200x8.toml.
/// Throws: Error(kConfig), naming file, line and key.
[[nodiscard]] Cluster load_cluster(const std::filesystem::path& path);

}  // namespace catena
