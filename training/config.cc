#include "training/config.h"

#include <algorithm>
#include <cmath>

#include "runtime/base/error.h"
#include "runtime/base/files.h"
#include "training/checkpoint/hugging_face.h"
#include "training/placement_file.h"

namespace catena {
namespace {

constexpr double kHuge = 1e12;
constexpr std::int64_t kMany = std::int64_t{1} << 40;

void describe_data(config::Schema& s, DataConfig& d) {
  s.section("data", "Text, tokenizer and how rows are made of it.");
  s.add("data.train", d.train,
        config::Text{{},
                     "",
                     "Training text: JSON Lines ({\"query\", \"response\"} or "
                     "{\"text\"}), plain text, .zst of both, or one folder "
                     "made by `catena data prepare`."});
  s.add("data.validation", d.validation,
        config::Text{{}, "", "Validation text, as data.train."});
  s.add("data.tokenizer", d.tokenizer,
        config::Text{{},
                     "",
                     "Hugging Face tokenizer.json (byte-level BPE), or a "
                     "folder with one."});
  s.add("data.sequence", d.sequence,
        config::Integer{2, 1 << 24, "tokens", "Positions of one row."});
  s.add("data.packing", d.packing,
        config::Text{{"packed", "padded"},
                     "",
                     "packed: several documents a row, attention stays inside "
                     "each. padded: one document a row."});
  s.add("data.loss", d.loss,
        config::Text{{"all", "response"},
                     "",
                     "Train on every token, or on the response alone."});
  s.add("data.end_of_text", d.end_of_text,
        config::Switch{"End every document with the tokenizer's end-of-text "
                       "token; false is the published runs' format."});
  s.add("data.keep_padding", d.keep_padding,
        config::Switch{"Compute, route and count padding, as the published "
                       "runs did. Otherwise padding does not exist."});
  s.add("data.skip_bad_rows", d.skip_bad_rows,
        config::Switch{"Skip and count malformed rows instead of stopping."});
  s.add("data.template", d.row_template,
        config::Text{{}, "", "How a row's query and response are joined."});
  s.add("data.cache", d.cache,
        config::Text{{}, "", "Folder for tokenized copies of raw text."});
}

void describe_training(config::Schema& s, Config& c) {
  s.section("train", "The training loop.");
  s.add("train.steps", c.train.steps,
        config::Integer{1, kMany, "steps", "Optimizer steps."});
  s.add("train.batch_tokens", c.train.batch_tokens,
        config::Integer{1, kMany, "positions",
                        "Positions of one step: rows times data.sequence."});
  s.add("train.micro_batch_tokens", c.train.micro_batch_tokens,
        config::Integer{1, kMany, "positions",
                        "Positions computed at once; gradients accumulate up "
                        "to batch_tokens. Less needs less memory."});
  s.add("train.seed", c.train.seed,
        config::Integer{0, kMany, "", "Initial weights and order of data."});
  s.add("train.precision", c.train.precision,
        config::Text{{"auto", "float32", "bfloat16", "float64"},
                     "",
                     "Type of activations and products. bfloat16 keeps "
                     "float32 master weights; float64 is for verification. "
                     "auto: what is fast on this device."});
  s.add("train.recompute", c.train.recompute,
        config::Text{{"none", "layer"},
                     "",
                     "layer: keep the inputs of layers alone and compute each "
                     "again when its gradient is due. The same numbers and "
                     "routes, less memory, and the work of another forward."});
  s.add("train.threads", c.train.threads,
        config::Integer{0, 255, "threads", "0: one per core."});
  ParallelConfig& p = c.parallel;
  s.section("parallel", "How work is split.");
  s.add("parallel.chunks", p.chunks,
        config::Integer{1, 64, "chunks",
                        "Sets of whole rows in flight at once; one computes "
                        "while another is on the wire."});
  s.add("parallel.expert", p.expert,
        config::Integer{0, 65536, "ranks",
                        "Ranks that share the experts between them; it "
                        "divides the number of ranks, and each such group "
                        "holds all experts. 0: the largest that does and has "
                        "an expert for every rank."});
  s.add("parallel.placement", p.placement,
        config::Text{{"contiguous", "round_robin"},
                     "",
                     "contiguous: runs of experts. round_robin: expert e on "
                     "rank e modulo parallel.expert."});
  s.add("parallel.placement_file", p.placement_file,
        config::Text{{},
                     "",
                     "TOML file that says which ranks of a group hold which "
                     "experts, instead of parallel.placement; see Ranks in "
                     "docs/operations.md."});
  s.add("parallel.transport", p.transport,
        config::Text{{"auto", "shared_memory", "gloo", "mpi"},
                     "",
                     "What joins the ranks. auto: mpi for those that mpirun "
                     "or srun started, gloo for those that were given a "
                     "rendezvous (shared memory inside a node, TCP between "
                     "nodes), else shared_memory of this machine."});
  s.add("parallel.row_budget", p.row_budget,
        config::Number{0, kHuge, "of a balanced share",
                       "With several ranks: rows (a token at one of its "
                       "experts) that a rank takes at once, over those of a "
                       "balanced routing, data.sequence x rows of a full "
                       "chunk x top_k; for each chunk, layer and iteration. "
                       "Rows beyond it are not dropped: they come in further "
                       "rounds, and are dispatched and computed again in "
                       "backward. Higher: more memory, and fewer rounds when "
                       "routing is uneven. As many as the ranks that share "
                       "experts: never a second round. 0: one token at a "
                       "time."});
  s.add("parallel.wire", p.wire,
        config::Text{{"auto", "float32", "bfloat16"},
                     "",
                     "With several ranks: type in which rows travel between "
                     "them. auto: that which is computed in. float32 where "
                     "that is bfloat16: the sums of a rank's experts come "
                     "home unrounded, for twice their bytes. bfloat16 where "
                     "it is float32: half the bytes, rounded."});
  s.add("parallel.ranks_per_node", p.ranks_per_node,
        config::Integer{0, 65536, "ranks",
                        "Rank r is on node r / ranks_per_node: bytes that "
                        "cross nodes are counted apart. 0: as the ranks' "
                        "hosts are; where these have not equally many "
                        "neighbouring ranks, and in plans without a cluster, "
                        "all are on one node."});
  s.add("parallel.hierarchical", p.hierarchical,
        config::Switch{"A token goes to each node that serves its experts "
                       "once and is spread inside it, and the node's results "
                       "come home as one row: fewer bytes between nodes, one "
                       "more exchange inside, and room for what a rank relays, "
                       "up to as many tokens of a chunk as there are nodes. "
                       "Groups of parallel.expert ranks are then whole nodes "
                       "(parallel.ranks_per_node), or parts of one, where "
                       "it changes nothing."});
  s.add("parallel.timeout", p.timeout,
        config::Number{0.001, kHuge, "seconds",
                       "An exchange that is not finished by then ends the "
                       "run, naming the rank that is waited for; ranks that "
                       "are started one by one meet within it."});
}

void describe_optimizer(config::Schema& s, Config& c) {
  LearningRateConfig& r = c.learning_rate;
  s.section("learning_rate", "The learning rate over a run.");
  s.add("learning_rate.peak", r.peak,
        config::Number{0, kHuge, "", "Highest learning rate."});
  s.add("learning_rate.warmup_steps", r.warmup_steps,
        config::Integer{0, kMany, "steps", "Linear rise from 0 to peak."});
  s.add("learning_rate.schedule", r.schedule,
        config::Text{{"constant", "linear", "cosine", "wsd"},
                     "",
                     "After the warm-up: constant; falling linearly or as a "
                     "half cosine to final_ratio; or wsd, constant and then "
                     "falling linearly in the last decay_fraction."});
  s.add("learning_rate.final_ratio", r.final_ratio,
        config::Number{0, 1, "", "Last learning rate over peak."});
  s.add("learning_rate.decay_fraction", r.decay_fraction,
        config::Number{0, 1, "of train.steps", "wsd: length of the fall."});
  OptimizerConfig& o = c.optimizer;
  s.section("optimizer", "AdamW.");
  s.add("optimizer.beta1", o.beta1,
        config::Number{0, 1, "", "Decay of the first moment."});
  s.add("optimizer.beta2", o.beta2,
        config::Number{0, 1, "", "Decay of the second moment."});
  s.add("optimizer.epsilon", o.epsilon,
        config::Number{0, 1, "", "Added to the second moment's root."});
  s.add("optimizer.weight_decay", o.weight_decay,
        config::Number{0, kHuge, "", "Decoupled weight decay."});
  s.add("optimizer.decay", o.decay,
        config::Text{{"all", "matrices"},
                     "",
                     "Decay every parameter, as published, or spare norms."});
  s.add(
      "optimizer.clip", o.clip,
      config::Number{0, kHuge, "", "Largest global gradient norm; 0 is off."});
}

void describe_run(config::Schema& s, Config& c) {
  s.section("validation", "Loss on a fixed set.");
  s.add(
      "validation.every", c.validation.every,
      config::Integer{0, kMany, "steps", "0: only before and after training."});
  s.add("validation.rows", c.validation.rows,
        config::Integer{1, kMany, "rows",
                        "First rows of data.validation that are used."});
  s.section("metrics",
            "What is written to RUN/metrics.jsonl, RUN/routing.jsonl and "
            "RUN/tensorboard.");
  s.add("metrics.every", c.metrics.every,
        config::Integer{1, kMany, "steps", "One line of metrics."});
  s.add("metrics.routing_every", c.metrics.routing_every,
        config::Integer{0, kMany, "steps",
                        "Load of every expert and transitions between "
                        "iterations; 0 is never."});
  s.add("metrics.tensorboard", c.metrics.tensorboard,
        config::Switch{"Files that TensorBoard reads, in RUN/tensorboard."});
  CheckpointConfig& p = c.checkpoint;
  s.section("checkpoint",
            "What a run goes on from after it was stopped. One is always "
            "written at the end and on SIGINT or SIGTERM.");
  s.add("checkpoint.every", p.every,
        config::Integer{0, kMany, "steps", "0: none while it runs."});
  s.add("checkpoint.keep_last", p.keep_last,
        config::Integer{1, kMany, "checkpoints", "Older ones are removed."});
  s.add("checkpoint.keep_every", p.keep_every,
        config::Integer{0, kMany, "steps",
                        "The first one at or after every multiple of it is "
                        "never removed; 0: none."});
  SpikeConfig& k = c.spikes;
  s.section("spikes",
            "Steps whose loss or gradient norm leaps above those before.");
  s.add("spikes.action", k.action,
        config::Text{{"off", "skip", "rewind"},
                     "",
                     "skip: the step is not taken. rewind: nor are those "
                     "since the last checkpoint; the data that led there is "
                     "not used again. Both count a loss or norm that is not "
                     "finite as a spike; off stops there."});
  s.add("spikes.deviations", k.deviations,
        config::Number{1, kHuge, "robust standard deviations",
                       "A spike is further above the median of the window."});
  s.add("spikes.window", k.window,
        config::Integer{16, 65536, "steps", "Steps taken that are compared."});
  s.add("spikes.most_in_a_row", k.most_in_a_row,
        config::Integer{1, kMany, "steps",
                        "More than so many spikes without a step between them "
                        "end the run."});
  s.section("run", "Where results go.");
  s.add("run.folder", c.run.folder,
        config::Text{{},
                     "",
                     "Folder of the run. {name} is the configuration file's "
                     "name; a number is added if the folder exists."});
  s.add("run.prompts", c.run.prompts,
        config::Text{{}, "", "Questions answered after training."});
}

void check_run(config::Schema& s, const Config& c) {
  const std::int64_t sequence = c.data.sequence;
  if (c.train.batch_tokens % sequence != 0) {
    s.problem(
        "train.batch_tokens",
        fmt::format("{} is no multiple of data.sequence = {}; the "
                    "nearest is {}",
                    c.train.batch_tokens, sequence,
                    std::max<std::int64_t>(
                        1, (c.train.batch_tokens + sequence / 2) / sequence) *
                        sequence));
  }
  if (sequence > c.model.max_positions) {
    s.problem("data.sequence",
              fmt::format("{} is longer than model.max_positions = {}",
                          sequence, c.model.max_positions));
  }
  const auto below_one = [&](const char* key, double value) {
    if (value >= 1) s.problem(key, fmt::format("{} must be below 1", value));
  };
  below_one("optimizer.beta1", c.optimizer.beta1);
  below_one("optimizer.beta2", c.optimizer.beta2);
  if (static_cast<float>(c.optimizer.epsilon) <= 0) {
    s.problem("optimizer.epsilon",
              "must be above 0 as float32: a parameter without a gradient "
              "divides by it");
  }
  if (c.data.keep_padding && c.data.packing != "padded") {
    s.problem("data.keep_padding",
              "packed rows have no padding; set data.packing = \"padded\"");
  }
  if (c.learning_rate.warmup_steps > c.train.steps) {
    s.problem("learning_rate.warmup_steps",
              fmt::format("{} is more than train.steps = {}",
                          c.learning_rate.warmup_steps, c.train.steps));
  }
}

}  // namespace

void describe(config::Schema& s, Config& c) {
  describe(s, c.model);
  s.add("model.config", c.model_file,
        config::Text{{},
                     "",
                     "Hugging Face config.json to take the model from; other "
                     "model keys that are set win over it."});
  describe_data(s, c.data);
  describe_training(s, c);
  describe_optimizer(s, c);
  describe_run(s, c);
  describe(s, c.launch);
}

void load(config::Schema& s, Config& c, const std::filesystem::path& path,
          const std::vector<std::string>& assignments) {
  if (!path.empty()) s.read_file(path);
  for (const std::string& assignment : assignments) {
    s.set(assignment, "--set");
  }
  if (!c.model_file.empty()) {
    for (const auto& [key, value] :
         read_hugging_face_config(read_file(c.model_file), c.model_file)) {
      if (!s.was_set(key)) s.set_value(key, value, c.model_file);
    }
  }
  s.finish();
  check(s, c.model);
  check_run(s, c);
  check(s, c.launch);
  s.finish();
}

namespace {

/// Nothing: that which is computed in.
std::optional<DType> wire_type(const std::string& name) {
  if (name == "float32") return DType::kFloat32;
  if (name == "bfloat16") return DType::kBFloat16;
  return {};
}

}  // namespace

std::int64_t Config::micro_rows(int world) const {
  return std::min(micro_batch_rows(), (rows_per_step() + world - 1) / world);
}

DispatchRules Config::dispatch_rules(std::int64_t micro_rows) const {
  const std::int64_t rows =
      (micro_rows + parallel.chunks - 1) / parallel.chunks;
  const double share =
      static_cast<double>(rows * data.sequence * model.chain.top_k);
  // Not beyond what counts of rows can be.
  return {.row_budget = static_cast<std::int64_t>(
              std::min(std::ceil(parallel.row_budget * share), 0x1p62)),
          .wire = wire_type(parallel.wire)};
}

Mesh Config::mesh(int world) const {
  const std::int64_t experts = model.chain.routed_experts;
  std::int64_t expert = parallel.expert;
  if (expert == 0) {
    expert = std::min<std::int64_t>(world, experts);
    while (world % expert != 0) --expert;
  }
  return mesh(world, static_cast<int>(expert));
}

Mesh Config::mesh(int world, int expert) const {
  const std::int64_t of_node = parallel.ranks_per_node;
  if (of_node > 0 && world > of_node && world % of_node != 0) {
    fail(ErrorKind::kConfig,
         "parallel.ranks_per_node = {}: {} ranks do not fill nodes of {}; "
         "choose a divisor of {}, or 0",
         of_node, world, of_node, world);
  }
  return make_mesh(world, expert, model.chain.routed_experts,
                   {.ranks = of_node, .hierarchical = parallel.hierarchical});
}

Placements Config::placements(const Mesh& mesh) const {
  const std::int64_t experts = model.chain.routed_experts;
  if (!parallel.placement_file.empty() && mesh.expert > 1) {
    return read_placement_file(parallel.placement_file,
                               {experts, mesh.expert, model.chain_layers()});
  }
  return parallel.placement == "contiguous"
             ? Placement::contiguous(experts, mesh.expert)
             : Placement::round_robin(experts, mesh.expert);
}

}  // namespace catena
