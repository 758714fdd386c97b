#include "training/plan.h"

#include <algorithm>
#include <functional>
#include <nlohmann/json.hpp>
#include <numeric>

#include "runtime/base/machine.h"
#include "training/combinations.h"
#include "training/kernel_table.h"
#include "training/metrics.h"

namespace catena {
namespace {

/// "570,955,776".
std::string grouped(std::string digits) {
  for (std::size_t i = digits.size(); i > 3;) {
    i -= 3;
    digits.insert(i, 1, ',');
  }
  return digits;
}
std::string grouped(std::int64_t value) {
  return grouped(std::to_string(value));
}

struct Part {
  const char* name;
  std::int64_t bytes;
};

std::vector<Part> memory_parts(const Estimate& needs) {
  return {{"weights", needs.weight_bytes},
          {"gradients", needs.gradient_bytes},
          {"optimizer", needs.optimizer_bytes},
          {"activations", needs.activation_bytes},
          {"buffers", needs.buffer_bytes},
          {"checkpoint copy", needs.snapshot_bytes}};
}

double sum(const std::map<std::string, double>& of_phases) {
  double sum = 0;
  for (const auto& [phase, bytes] : of_phases) sum += bytes;
  return sum;
}

/// ", 12 MiB of it to other nodes", where there are any.
std::string across_text(const Mesh& mesh, double bytes) {
  if (mesh.ranks_per_node >= mesh.world) return "";
  return fmt::format(", {} of it to other nodes",
                     human_bytes(static_cast<std::int64_t>(bytes)));
}

constexpr const char* kForced =
    "forced balanced (model.router.force_balanced): experts are dealt out";

using Line = std::function<void(const std::string&, const std::string&)>;

/// "1.24 (rank 3)".
std::string load_text(const RoutingPlan& routing) {
  return fmt::format("{:.3f} max/mean (rank {}); worst {:.3f}, step {} L{}i{}",
                     routing.load_max_to_mean, routing.busiest,
                     routing.worst.max_to_mean, routing.worst.step,
                     routing.worst.layer, routing.worst.iteration);
}

/// A line for each rank: the busiest, where they are many.
void print_ranks(const RoutingPlan& routing, const Mesh& mesh,
                 const Line& line) {
  constexpr std::size_t kMost = 16;
  std::vector<std::size_t> order(routing.ranks.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  if (order.size() > kMost) {
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) {
                       return routing.ranks[a].rows > routing.ranks[b].rows;
                     });
    order.resize(kMost);
  }
  for (const std::size_t r : order) {
    const RoutingPlan::OfRank& rank = routing.ranks[r];
    std::string text =
        fmt::format("{} rows", grouped(static_cast<std::int64_t>(rank.rows)));
    for (const auto& [phase, bytes] : rank.exchange_bytes) {
      text += fmt::format(", {} {}", phase,
                          grouped(static_cast<std::int64_t>(bytes)));
    }
    line(fmt::format("  rank {}", r),
         fmt::format("{} bytes{}; activations {}", text,
                     across_text(mesh, sum(rank.across_bytes)),
                     human_bytes(rank.activation_bytes)));
  }
}

void print_routing(const Plan& plan, const Config& config, const Line& line) {
  const bool forced = plan.routing.has_value()
                          ? plan.routing->forced_balanced
                          : config.model.router.force_balanced;
  if (!plan.routing.has_value()) {
    if (forced) line("routing", kForced);
    return;
  }
  const RoutingPlan& routing = *plan.routing;
  line("routing", fmt::format("{}, {} steps{}", routing.routing, routing.steps,
                              forced ? fmt::format("; {}", kForced) : ""));
  line("load of ranks", load_text(routing));
  line("  of all its steps", "rows served, and bytes sent by phase");
  print_ranks(routing, plan.mesh, line);
}

void print_memory(const Plan& plan, const Line& line) {
  const std::string here =
      fmt::format("; this machine has {}", human_bytes(plan.memory_bytes));
  const bool several = plan.mesh.world > 1;
  line(several ? "memory of a rank" : "memory",
       fmt::format("{}{}{}", human_bytes(plan.needs.total_bytes()),
                   plan.mesh.expert > 1 ? ", whatever the routing" : "",
                   several ? "" : here));
  for (const Part& part : memory_parts(plan.needs)) {
    line(fmt::format("  {}", part.name), human_bytes(part.bytes));
  }
  if (!several) return;
  line("memory of a machine",
       fmt::format("{} with {} {}{}", human_bytes(plan.machine_bytes()),
                   plan.mesh.ranks_per_node,
                   plan.mesh.ranks_per_node == 1 ? "rank" : "ranks", here));
}

double step_flops(const Estimate& needs, const Config& config) {
  return needs.flops_per_token * static_cast<double>(config.train.batch_tokens);
}

}  // namespace

std::string model_name(const ModelConfig& config) {
  const ChainConfig& c = config.chain;
  return fmt::format(
      "{}({}/{})",
      c.iterations == 1 ? "MoE" : fmt::format("CoE-{}", c.iterations), c.top_k,
      c.routed_experts + c.shared_experts);
}

Plan make_plan(const Config& config, Precision precision, int ranks,
               const std::string& routing) {
  Plan plan;
  plan.mesh = config.mesh(ranks);
  plan.name = model_name(config.model);
  plan.type = precision.compute;
  plan.needs = estimate(config, precision, plan.mesh);
  if (routing != "balanced") {
    plan.routing = plan_routing(config, precision, plan.mesh, routing);
  }
  plan.combinations = expert_combinations(config.model);
  plan.memory_bytes = memory_limit_bytes();
  const auto path = kernel_table_path(config.data.cache, precision.compute);
  // A table is of one rank that has the machine to itself.
  if (const auto table = load_kernel_table(path); table && ranks == 1) {
    plan.step_seconds = table->foretell(plan.needs.kernels);
    plan.step_seconds_from =
        fmt::format("{} ({})", path.string(), table->layout);
  }
  return plan;
}

std::string plan_text(const Plan& plan, const Config& config) {
  const Estimate& needs = plan.needs;
  std::string text;
  const auto line = [&](const std::string& name, const std::string& value) {
    text += fmt::format("{:<22}{}\n", name, value);
  };
  line("model",
       fmt::format("{}, {}, {} layers, hidden {}", plan.name, name(plan.type),
                   config.model.layers, config.model.hidden));
  line("parameters", grouped(needs.parameters));
  line("  in the layers", grouped(needs.layer_parameters));
  line("  active a token", grouped(needs.active_parameters));
  line("expert combinations",
       fmt::format("{} a chain layer", grouped(plan.combinations)));
  line("FLOPs a token",
       grouped(static_cast<std::int64_t>(needs.flops_per_token + 0.5)));
  line(
      "FLOPs a step",
      fmt::format("{} ({} rows of {})", human_number(step_flops(needs, config)),
                  config.rows_per_step(), config.data.sequence));
  if (plan.mesh.world > 1) {
    line("ranks", fmt::format("{}: {} x {} (data x expert)", plan.mesh.world,
                              plan.mesh.data(), plan.mesh.expert));
    line("sent by a rank",
         fmt::format(
             "{} a step{}, under a balanced routing",
             human_bytes(static_cast<std::int64_t>(sum(needs.exchange_bytes))),
             across_text(plan.mesh, sum(needs.across_bytes))));
    for (const auto& [phase, bytes] : needs.exchange_bytes) {
      if (bytes == 0) continue;
      line(fmt::format("  {}", phase),
           human_bytes(static_cast<std::int64_t>(bytes)) +
               across_text(plan.mesh, needs.across_bytes.at(phase)));
    }
  }
  print_routing(plan, config, line);
  print_memory(plan, line);
  if (plan.step_seconds.has_value()) {
    const double rate =
        static_cast<double>(config.train.batch_tokens) / *plan.step_seconds;
    line("step time", fmt::format("{:.3f} s, {} tokens/s", *plan.step_seconds,
                                  human_number(rate)));
    line("  run of all steps",
         human_seconds(*plan.step_seconds *
                       static_cast<double>(config.train.steps)));
    line("  from", plan.step_seconds_from);
  } else if (plan.mesh.world > 1) {
    line("step time", "unknown: it is foretold for one rank alone so far");
  } else {
    line("step time",
         "unknown: a run of ten steps on this machine leaves a kernel table");
  }
  return text;
}

namespace {

nlohmann::ordered_json routing_json(const RoutingPlan& routing) {
  nlohmann::ordered_json json{{"routing", routing.routing},
                              {"steps", routing.steps},
                              {"load_max_to_mean", routing.load_max_to_mean},
                              {"worst_load",
                               {{"max_to_mean", routing.worst.max_to_mean},
                                {"step", routing.worst.step},
                                {"layer", routing.worst.layer},
                                {"iteration", routing.worst.iteration}}}};
  for (const RoutingPlan::OfRank& rank : routing.ranks) {
    json["ranks"].push_back({{"rows", rank.rows},
                             {"exchange_bytes", rank.exchange_bytes},
                             {"across_bytes", rank.across_bytes},
                             {"activation_bytes", rank.activation_bytes}});
  }
  return json;
}

}  // namespace

std::string plan_json(const Plan& plan, const Config& config) {
  const Estimate& needs = plan.needs;
  nlohmann::ordered_json json{
      {"model", plan.name},
      {"type", name(plan.type)},
      {"parameters", needs.parameters},
      {"parameters_in_layers", needs.layer_parameters},
      {"parameters_active_a_token", needs.active_parameters},
      {"expert_combinations_a_layer", plan.combinations},
      {"flops_a_token", needs.flops_per_token},
      {"flops_a_step", step_flops(needs, config)},
      {"tokens_a_step", config.train.batch_tokens},
      {"ranks", plan.mesh.world},
      {"ranks_that_share_experts", plan.mesh.expert},
      {"ranks_a_node", plan.mesh.ranks_per_node},
      {"memory_bytes", needs.total_bytes()},
      {"memory_bytes_a_node", plan.machine_bytes()},
      {"memory_limit_bytes", plan.memory_bytes},
      {"fits", plan.machine_bytes() <= plan.memory_bytes},
      {"memory", nlohmann::ordered_json::object()},
      {"step_seconds", nullptr},
      {"step_seconds_from", plan.step_seconds_from}};
  for (const Part& part : memory_parts(needs)) {
    json["memory"][part.name] = part.bytes;
  }
  if (plan.step_seconds.has_value()) json["step_seconds"] = *plan.step_seconds;
  for (const auto& [phase, bytes] : needs.exchange_bytes) {
    json["exchange_bytes_a_step"][phase] = bytes;
    json["across_bytes_a_step"][phase] = needs.across_bytes.at(phase);
  }
  if (plan.routing.has_value()) json["routing"] = routing_json(*plan.routing);
  if (plan.routing.has_value() ? plan.routing->forced_balanced
                               : config.model.router.force_balanced) {
    json["forced_balanced"] = true;
  }
  for (const auto& [kernel, cost] : needs.kernels) {
    json["kernels"][kernel] = {{"flops", cost.flops},
                               {"read_bytes", cost.read_bytes},
                               {"write_bytes", cost.write_bytes}};
  }
  return json.dump(2) + "\n";
}

}  // namespace catena
