#include "training/estimate.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>

#include "layers/model.h"
#include "training/metrics.h"
#include "training/optimizer.h"

namespace catena {
namespace {

/// Full rows of one document each: the most that a step can cost.
struct FullRows {
  std::vector<std::int32_t> ids, targets, positions, first;
  std::vector<std::int64_t> row_offsets;

  FullRows(std::int64_t rows, std::int64_t sequence)
      : ids(static_cast<std::size_t>(rows * sequence)), targets(ids) {
    for (std::int64_t row = 0; row < rows; ++row) {
      row_offsets.push_back(row * sequence);
      for (std::int64_t i = 0; i < sequence; ++i) {
        positions.push_back(static_cast<std::int32_t>(i));
        first.push_back(static_cast<std::int32_t>(row * sequence));
      }
    }
    row_offsets.push_back(rows * sequence);
  }
};

void count_parameters(ParameterSet& set, const ModelConfig& model,
                      Estimate& result) {
  for (std::size_t i = 0; i < set.size(); ++i) {
    const Parameter& p = set[i];
    result.parameters += p.elements();
    const bool in_layers = p.name().starts_with("model.layers.");
    if (in_layers) result.layer_parameters += p.elements();
    const bool routed = p.name().find(".mlp.experts.") != std::string::npos;
    const std::int64_t experts = model.chain.routed_experts;
    result.active_parameters +=
        routed
            ? p.elements() / experts *
                  std::min(experts, model.chain.top_k * model.chain.iterations)
            : p.elements();
    result.weight_bytes +=
        p.master().bytes() + (p.copy().defined() ? p.copy().bytes() : 0);
    result.gradient_bytes += p.gradient().bytes();
  }
  result.optimizer_bytes = 2 * result.gradient_bytes;
}

/// Peak of every chunk's arenas over one accumulation step of full rows.
std::vector<ChunkMemory> chunk_memory(Model& model, const Config& config,
                                      std::int64_t rows) {
  const FullRows full(rows, config.data.sequence);
  std::vector<std::unique_ptr<Chunk>> chunks;
  for (std::int64_t i = 0; i < config.chunks; ++i) {
    chunks.push_back(model.make_chunk());
  }
  model.train(
      {full.ids, full.targets, full.positions, full.first, full.row_offsets},
      {}, chunks);
  std::vector<ChunkMemory> result;
  for (const auto& chunk : chunks) {
    result.push_back(
        {chunk->activations.peak_bytes(), chunk->scratch.peak_bytes()});
  }
  return result;
}

/// low and high, at x = 1/2 and 1, continued to x.
std::size_t continued(std::size_t low, std::size_t high, double x) {
  const auto top = static_cast<double>(high);
  return static_cast<std::size_t>(top + (top - static_cast<double>(low)) * 2 *
                                            (x - 1));
}

std::vector<ChunkMemory> memory_of_rows(Model& model, const Config& config,
                                        std::int64_t rows) {
  // Beyond a few hundred thousand tokens memory grows with rows alone, and
  // even their ids would be large: two smaller steps give the slope.
  const std::int64_t most = std::max<std::int64_t>(
      2 * config.chunks, (std::int64_t{1} << 18) / config.data.sequence);
  if (rows <= most) return chunk_memory(model, config, rows);
  const std::vector<ChunkMemory> low = chunk_memory(model, config, most / 2);
  std::vector<ChunkMemory> result = chunk_memory(model, config, most);
  const double x = static_cast<double>(rows) / static_cast<double>(most);
  for (std::size_t i = 0; i < result.size(); ++i) {
    result[i] = {continued(low[i].activations, result[i].activations, x),
                 continued(low[i].scratch, result[i].scratch, x)};
  }
  return result;
}

}  // namespace

Estimate estimate(const Config& config, Precision precision) {
  const auto backend = make_meta_backend();
  Model model(*backend, config.model, precision);
  const Optimizer optimizer(model.parameters(), config.optimizer);
  Estimate result;
  count_parameters(model.parameters(), config.model, result);
  result.buffer_bytes = backend->memory().bytes - result.weight_bytes -
                        result.gradient_bytes - result.optimizer_bytes;
  result.snapshot_bytes = result.optimizer_bytes + result.gradient_bytes;
  const std::int64_t rows = std::clamp<std::int64_t>(
      config.train.micro_batch_tokens / config.data.sequence, 1,
      config.rows_per_step());
  result.chunks = memory_of_rows(model, config, rows);
  for (const ChunkMemory& chunk : result.chunks) {
    result.activation_bytes +=
        static_cast<std::int64_t>(chunk.activations + chunk.scratch);
  }
  backend->kernels().reset_counts();
  (void)chunk_memory(model, config, 1);
  result.flops_per_token = product_flops(backend->kernels()) /
                           static_cast<double>(config.data.sequence);
  return result;
}

double product_flops(const Kernels& kernels) {
  double flops = 0;
  for (const KernelCount& count : kernels) {
    if (count.name.find("gemm") != std::string_view::npos ||
        count.name.find("attention") != std::string_view::npos) {
      flops += count.cost.flops;
    }
  }
  return flops;
}

double probe_peak_flops(Backend& backend, DType dtype) {
  constexpr std::int64_t kSize = 1024;
  const Tensor a(backend, dtype, {kSize, kSize});
  const Tensor b(backend, dtype, {kSize, kSize});
  const Tensor c(backend, dtype, {kSize, kSize});
  const Gemm product{
      .a = a.view(), .b = b.view(), .c = c.view(), .transpose_b = true};
  using Clock = std::chrono::steady_clock;
  const auto end = Clock::now() + std::chrono::milliseconds(200);
  double best = 0;
  do {
    const auto begin = Clock::now();
    backend.kernels()(product);
    const std::chrono::duration<double> took = Clock::now() - begin;
    best = std::max(best, product.cost().flops / took.count());
  } while (Clock::now() < end);
  return best;
}

void check_fits(const Estimate& estimate, const Config& config) {
  const std::int64_t memory =
      static_cast<std::int64_t>(::sysconf(_SC_PHYS_PAGES)) *
      ::sysconf(_SC_PAGESIZE);
  if (estimate.total_bytes() <= memory) return;
  fail(ErrorKind::kDoesNotFit,
       "this run needs about {}, and the machine has {}: weights {}, "
       "gradients {}, optimizer {}, activations {}. Lower "
       "train.micro_batch_tokens (now {}), model.chain.routed_experts, "
       "model.chain.intermediate or model.layers",
       human_bytes(estimate.total_bytes()), human_bytes(memory),
       human_bytes(estimate.weight_bytes), human_bytes(estimate.gradient_bytes),
       human_bytes(estimate.optimizer_bytes),
       human_bytes(estimate.activation_bytes), config.train.micro_batch_tokens);
}

}  // namespace catena
