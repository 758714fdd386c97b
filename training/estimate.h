#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "layers/chunk.h"
#include "parallel/mesh.h"
#include "training/config.h"

namespace catena {

/// What a configuration will take, found by running one accumulation step of
/// the real model on the meta backend. Parameters and FLOPs are those of the
/// model; bytes and kernels those of one rank.
struct Estimate {
  std::int64_t parameters = 0;
  std::int64_t layer_parameters = 0;   ///< without embedding, head, last norm
  std::int64_t active_parameters = 0;  ///< that one token passes, each once
  double flops_per_token = 0;          ///< forward and backward, full rows
  std::int64_t weight_bytes = 0;       ///< masters and rounded copies
  std::int64_t gradient_bytes = 0, optimizer_bytes = 0;
  std::int64_t activation_bytes = 0;  ///< arenas at their peak
  std::int64_t buffer_bytes = 0;      ///< statistics, tables, reductions
  std::int64_t snapshot_bytes = 0;    ///< copy that checkpoints are written of
  std::vector<ChunkMemory> chunks;    ///< activation_bytes, chunk by chunk
  std::map<std::string, Cost> kernels;  ///< of one optimizer step
  /// Bytes that one rank sends in an optimizer step, by phase.
  std::map<std::string, double> exchange_bytes;
  std::map<std::string, double> across_bytes;  ///< of them, to other nodes

  [[nodiscard]] std::int64_t total_bytes() const {
    return weight_bytes + gradient_bytes + optimizer_bytes + activation_bytes +
           buffer_bytes + snapshot_bytes;
  }
};

/// Of a rank of `mesh`; if none is named, of the first that holds the most
/// experts. Where experts are shared, memory is the most that any
/// routing takes, and kernels and exchanges are those of a balanced one.
[[nodiscard]] Estimate estimate(const Config& config, Precision precision,
                                const Mesh& mesh = {},
                                std::optional<int> rank = std::nullopt);

/// Matrix products and attention: the kernels that MFU sets against the peak.
[[nodiscard]] bool is_product(std::string_view kernel);

/// FLOPs of these kernels that were counted so far.
[[nodiscard]] double product_flops(const Kernels& kernels);

/// FLOPs a second of a large matrix product in `dtype`: the machine's peak as
/// this program can reach it. Takes about a fifth of a second.
[[nodiscard]] double probe_peak_flops(Backend& backend, DType dtype);

/// How many ranks a run has, how many of them share one machine's memory, and
/// what these take; 0: each as much as the one that was estimated.
struct MemorySharers {
  int world = 1, of_machine = 1;
  std::int64_t together_bytes = 0;
};

/// Throws: Error(kDoesNotFit), as why_too_large() of this machine's memory.
void check_fits(const Estimate& estimate, const Config& config,
                const MemorySharers& ranks);
/// Where what ranks.of_machine ranks take is more than `memory_bytes`, which
/// this machine has: what they take, and which keys shrink them. Else nothing.
[[nodiscard]] std::string why_too_large(const Estimate& estimate,
                                        const Config& config,
                                        const MemorySharers& ranks,
                                        std::int64_t memory_bytes);

}  // namespace catena
