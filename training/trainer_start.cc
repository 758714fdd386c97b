#include "parallel/nodes.h"
#include "runtime/base/files.h"
#include "runtime/base/hash.h"
#include "runtime/base/log.h"
#include "training/metrics.h"
#include "training/plan.h"
#include "training/trainer.h"

namespace catena {

void Trainer::describe_state(const config::Schema& schema) {
  const std::string launch = fmt::format("{}.", LaunchConfig::kSection);
  for (const config::Key& key : schema.keys()) {
    // A job that is launched in another way is the same training.
    if (key.path.starts_with(launch)) continue;
    state_.config.push_back({key.path, key.value});
  }
  std::string ranks = "1 rank";
  if (ranks_ != nullptr) {
    ranks = fmt::format("{} ranks, experts over {}", ranks_->size(),
                        ranks_->mesh().expert);
    const std::string& placement = config_.parallel.placement_file;
    if (!placement.empty()) {
      ranks += fmt::format(" by a placement of hash {}",
                           hexadecimal(hash64(read_file(placement))));
    }
  }
  state_.layout = fmt::format("{}, {}, {}", ranks, backend_->description(),
                              name(precision_.compute));
  state_.data_hash = hexadecimal(train_data_.hash());
  state_.validation_hash = hexadecimal(validation_data_.hash());
  state_.tokenizer_hash = hexadecimal(hash64(tokenizer_.json()));
}

std::unique_ptr<EventFile> Trainer::make_event_file() const {
  if (!leads() || !config_.metrics.tensorboard) return nullptr;
  return std::make_unique<EventFile>(run_.path / "tensorboard",
                                     first_step_ > 0 ? first_step_ + 1 : 0);
}

void Trainer::print_start(const Estimate& needs) const {
  const ModelConfig& m = config_.model;
  log::info("run      {}", run_.path.string());
  log::info("device   {}, {}", backend_->description(),
            name(precision_.compute));
  if (ranks_ != nullptr) {
    const Mesh& mesh = ranks_->mesh();
    log::info(
        "ranks    {} over {}: {} x {} (data x expert), {} to {} experts "
        "each{}{}",
        mesh.world, ranks_->world().transport().description(), mesh.data(),
        mesh.expert, ranks_->placements().held_by_ranks().first,
        ranks_->placements().held_by_ranks().second,
        mesh.ranks_per_node < mesh.world
            ? fmt::format(", {} a node", mesh.ranks_per_node)
            : "",
        mesh.crosses() ? ", a token crosses to each once" : "");
  }
  log::info(
      "model    {}: {} layers, hidden {}, {} parameters, {} "
      "active a token, {}FLOP a token",
      model_name(m), m.layers, m.hidden,
      human_number(static_cast<double>(needs.parameters)),
      human_number(static_cast<double>(needs.active_parameters)),
      human_number(needs.flops_per_token));
  log::info("data     {} documents, {} tokens; {} rows of {} a step, {} steps",
            train_data_.documents(),
            human_number(static_cast<double>(train_data_.tokens())),
            config_.rows_per_step(), config_.data.sequence,
            config_.train.steps);
  log::info(
      "memory   about {}: weights {}, gradients {}, optimizer {}, "
      "activations {}, checkpoint {}",
      human_bytes(needs.total_bytes()), human_bytes(needs.weight_bytes),
      human_bytes(needs.gradient_bytes), human_bytes(needs.optimizer_bytes),
      human_bytes(needs.activation_bytes + needs.buffer_bytes),
      human_bytes(needs.snapshot_bytes));
  if (const auto bad = train_data_.manifest().bad_rows; bad > 0) {
    log::warning("{} malformed rows of data.train were skipped", bad);
  }
  if (m.router.force_balanced) {
    log::warning(
        "model.router.force_balanced: experts are dealt out, not "
        "chosen; the losses mean nothing");
  }
  if (routes_ != nullptr && routes_->replays()) {
    log::warning(
        "routes are a file's, not this run's own: see --replay-routing");
  }
}

}  // namespace catena
