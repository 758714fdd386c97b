#include "training/estimate.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "layers/model.h"
#include "parallel/meta/transport.h"
#include "runtime/base/machine.h"
#include "training/checkpoint/tensors.h"
#include "training/full_rows.h"
#include "training/metrics.h"
#include "training/optimizer.h"

namespace catena {
namespace {

void count_parameters(ParameterSet& set, const ModelConfig& model,
                      const Optimizer& optimizer, Estimate& result) {
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
  for (std::size_t i = 0; i < optimizer.sections(); ++i) {
    result.optimizer_bytes +=
        optimizer.first(i).bytes() + optimizer.second(i).bytes();
  }
}

/// Peak of every chunk's arenas over one accumulation step of full rows; with
/// several ranks, as Ranks::expect_worst() says.
std::vector<ChunkMemory> chunk_memory(Model& model, const Config& config,
                                      std::int64_t rows) {
  const FullRows full(rows, config.data.sequence);
  if (model.ranks() != nullptr) {
    model.ranks()->set_rules(config.dispatch_rules(rows));
  }
  std::vector<std::unique_ptr<Chunk>> chunks;
  for (std::int64_t i = 0; i < config.parallel.chunks; ++i) {
    chunks.push_back(model.make_chunk());
    chunks.back()->recompute = config.train.recompute == "layer";
  }
  model.train(full.tokens(), {}, chunks);
  std::vector<ChunkMemory> result;
  for (const auto& chunk : chunks) {
    result.push_back(chunk->peak());
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
  const std::int64_t most =
      std::max<std::int64_t>(2 * config.parallel.chunks,
                             (std::int64_t{1} << 18) / config.data.sequence);
  if (rows <= most) return chunk_memory(model, config, rows);
  const std::vector<ChunkMemory> low = chunk_memory(model, config, most / 2);
  std::vector<ChunkMemory> result = chunk_memory(model, config, most);
  const double x = static_cast<double>(rows) / static_cast<double>(most);
  for (std::size_t i = 0; i < result.size(); ++i) {
    result[i] = {continued(low[i].activations, result[i].activations, x),
                 continued(low[i].scratch, result[i].scratch, x),
                 continued(low[i].wire, result[i].wire, x)};
  }
  return result;
}

/// Kernels and exchanges of a whole optimizer step of full rows: those of one
/// row, times rows, and the optimizer's.
void count_step(Model& model, Optimizer& optimizer, const Config& config,
                Ranks* ranks, std::int64_t world, Estimate& result) {
  Kernels& kernels = model.backend().kernels();
  const auto add = [&](double times) {
    for (const KernelCount& count : kernels) {
      Cost& cost = result.kernels[std::string(count.name)];
      cost.flops += times * count.cost.flops;
      cost.read_bytes += times * count.cost.read_bytes;
      cost.write_bytes += times * count.cost.write_bytes;
    }
    kernels.reset_counts();
    if (ranks == nullptr) return;
    const Traffic traffic = ranks->take_traffic();
    for (std::size_t i = 0; i < kPhaseCount; ++i) {
      const std::string phase(name(static_cast<Phase>(i)));
      result.exchange_bytes[phase] +=
          times * static_cast<double>(traffic.phases[i].sent_bytes);
      result.across_bytes[phase] +=
          times * static_cast<double>(traffic.phases[i].across_bytes);
    }
  };
  const double all =
      static_cast<double>(config.rows_per_step()) / static_cast<double>(world);
  const auto rows = static_cast<std::int64_t>(std::ceil(std::min(8.0, all)));
  kernels.reset_counts();
  if (ranks != nullptr) (void)ranks->take_traffic();
  (void)chunk_memory(model, config, rows);
  add(all / static_cast<double>(rows));
  for (std::size_t group = model.parameters().groups(); group-- > 0;) {
    optimizer.take(group);
  }
  optimizer.sum_gradients();
  (void)optimizer.gradient_norm();
  optimizer.update(1, 1, 1);
  add(1);
}

/// `ranks`: null for one rank.
Estimate estimate_of(const Config& config, Precision precision, Ranks* ranks,
                     std::int64_t world) {
  const auto own = ranks == nullptr ? make_meta_backend() : nullptr;
  Backend& backend = ranks == nullptr ? *own : ranks->backend();
  Model model(backend, config.model, precision, ranks);
  Optimizer optimizer(model.parameters(), config.optimizer, ranks);
  Estimate result;
  count_parameters(model.parameters(), config.model, optimizer, result);
  result.buffer_bytes = backend.memory().bytes - result.weight_bytes -
                        result.gradient_bytes - result.optimizer_bytes;
  result.snapshot_bytes = Snapshot::bytes_of(model, optimizer);
  if (ranks != nullptr) ranks->expect_worst(true);
  result.chunks =
      memory_of_rows(model, config, config.micro_rows(static_cast<int>(world)));
  if (ranks != nullptr) ranks->expect_worst(false);
  for (const ChunkMemory& chunk : result.chunks) {
    result.activation_bytes += static_cast<std::int64_t>(chunk.total());
  }
  count_step(model, optimizer, config, ranks, world, result);
  for (const auto& [name, cost] : result.kernels) {
    if (is_product(name)) result.flops_per_token += cost.flops;
  }
  result.flops_per_token /= static_cast<double>(config.train.batch_tokens);
  return result;
}

}  // namespace

bool is_product(std::string_view kernel) {
  return kernel.find("gemm") != std::string_view::npos ||
         kernel.find("attention") != std::string_view::npos;
}

Estimate estimate(const Config& config, Precision precision, const Mesh& mesh,
                  std::optional<int> rank) {
  Estimate result = estimate_of(config, precision, nullptr, 1);
  if (mesh.world == 1) return result;
  const Placements placements = config.placements(mesh);
  const auto transport =
      make_meta_transport(rank.value_or(placements.fullest()), mesh.world);
  const auto backend = make_meta_backend();
  Ranks ranks(*transport, *backend, mesh, placements,
              Communicator::Deadline(1));
  Estimate of_rank = estimate_of(config, precision, &ranks, mesh.world);
  of_rank.parameters = result.parameters;
  of_rank.layer_parameters = result.layer_parameters;
  of_rank.active_parameters = result.active_parameters;
  of_rank.flops_per_token = result.flops_per_token;
  return of_rank;
}

double product_flops(const Kernels& kernels) {
  double flops = 0;
  for (const KernelCount& count : kernels) {
    if (is_product(count.name)) flops += count.cost.flops;
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

std::string why_too_large(const Estimate& estimate, const Config& config,
                          const MemorySharers& ranks,
                          std::int64_t memory_bytes) {
  const std::int64_t of_rank = estimate.total_bytes();
  const std::int64_t together = ranks.together_bytes > 0
                                    ? ranks.together_bytes
                                    : ranks.of_machine * of_rank;
  if (together <= memory_bytes) return "";
  const bool several = ranks.of_machine > 1;
  const std::string who =
      several ? fmt::format("each of {} ranks on one machine", ranks.of_machine)
      : ranks.world > 1 ? "a rank"
                        : "this run";
  return fmt::format(
      "{} needs about {}{}, and this machine, {}, has {}: weights {}, "
      "gradients {}, optimizer {}, activations {}, checkpoint {}. Lower "
      "train.micro_batch_tokens (now {}), data.sequence (now {}), "
      "model.chain.routed_experts, model.chain.intermediate or "
      "model.layers{}{}{}",
      who, human_bytes(of_rank),
      several ? fmt::format(", {} together", human_bytes(together)) : "",
      host_name(), human_bytes(memory_bytes),
      human_bytes(estimate.weight_bytes), human_bytes(estimate.gradient_bytes),
      human_bytes(estimate.optimizer_bytes),
      human_bytes(estimate.activation_bytes),
      human_bytes(estimate.snapshot_bytes), config.train.micro_batch_tokens,
      config.data.sequence,
      ranks.world == 1 ? ""
                       : fmt::format(", or parallel.row_budget (now {})",
                                     config.parallel.row_budget),
      config.train.recompute == "layer"
          ? ""
          : ", or set train.recompute = \"layer\"",
      several ? ", or have fewer ranks on a machine" : "");
}

void check_fits(const Estimate& estimate, const Config& config,
                const MemorySharers& ranks) {
  const std::string why =
      why_too_large(estimate, config, ranks, memory_limit_bytes());
  if (!why.empty()) fail(ErrorKind::kDoesNotFit, "{}", why);
}

}  // namespace catena
