#include "training/trainer.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "runtime/base/files.h"
#include "runtime/base/log.h"
#include "training/checkpoint/weights.h"
#include "training/generate.h"
#include "training/stop.h"

namespace catena {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

Precision resolve(const std::string& precision, const Backend& backend) {
  if (precision == "float32") return {DType::kFloat32};
  if (precision == "bfloat16") return {DType::kBFloat16};
  if (precision == "float64") return {DType::kFloat64};
  return {backend.fast_type()};
}

}  // namespace

Trainer::Result Trainer::run() {
  install_stop_signals();
  Result result;
  result.validation_before = validate(0);
  data::Sampler sampler(train_data_, sampler_options());
  Step step(*model_, *optimizer_, config_);
  StepReport report;
  data::Batch batch;
  const auto begin = Clock::now();
  for (std::int64_t number = 1; number <= config_.train.steps; ++number) {
    const auto step_begin = Clock::now();
    const double flops_before = product_flops(backend_->kernels());
    sampler.next(config_.rows_per_step(), batch);
    step.run(batch, number, report);
    report.seconds = seconds_since(step_begin);
    report.flops = product_flops(backend_->kernels()) - flops_before;
    report.epoch = static_cast<double>(sampler.epoch());
    result.steps = number;
    result.tokens += report.tokens;
    report.total_tokens = result.tokens;
    result.seconds = seconds_since(begin);
    this->report(report, result.seconds);
    result.stopped = stop_signal() != 0;
    if (result.stopped) break;
    const std::int64_t every = config_.validation.every;
    if (every > 0 && number % every == 0 && number < config_.train.steps) {
      validate(number);
    }
  }
  log::progress("");
  result.validation_after = validate(result.steps);
  finish(result);
  return result;
}

Trainer::Trainer(const Config& config, const RunFolder& run)
    : config_(config),
      run_(run),
      tokenizer_(data::Tokenizer::load(config.data.tokenizer)),
      backend_(make_cpu_backend(static_cast<int>(config.train.threads))),
      precision_(resolve(config.train.precision, *backend_)),
      train_data_(open(config.data.train, "data.train")),
      validation_data_(open(config.data.validation, "data.validation")),
      validation_(validation_data_, sampler_options(), config) {
  if (tokenizer_.vocabulary_size() > config.model.vocabulary) {
    fail(ErrorKind::kConfig,
         "model.vocabulary is {}, but {} has {} tokens; set "
         "model.vocabulary = {} or more",
         config.model.vocabulary, config.data.tokenizer,
         tokenizer_.vocabulary_size(), tokenizer_.vocabulary_size());
  }
  const Estimate needs = estimate(config, precision_);
  check_fits(needs, config);
  print_start(needs);
  write_file_atomically(run_.tokenizer(), tokenizer_.json());
  model_ = std::make_unique<Model>(*backend_, config.model, precision_);
  model_->parameters().initialize(
      static_cast<std::uint64_t>(config.train.seed));
  optimizer_ =
      std::make_unique<Optimizer>(model_->parameters(), config.optimizer);
  metrics_ = std::make_unique<MetricsWriter>(run_.path);
  peak_flops_ = probe_peak_flops(*backend_, precision_.compute);
  log::info("peak     {}FLOP/s measured", human_number(peak_flops_));
}

Trainer::~Trainer() = default;

data::SamplerOptions Trainer::sampler_options() const {
  const DataConfig& d = config_.data;
  return {.sequence = d.sequence,
          .packing = d.packing == "packed" ? data::Packing::kPacked
                                           : data::Packing::kPadded,
          .seed = static_cast<std::uint64_t>(config_.train.seed),
          .shuffle = true,
          .response_only = d.loss == "response",
          .keep_padding = d.keep_padding,
          .padding_token = tokenizer_.end_of_text().value_or(0)};
}

data::Dataset Trainer::open(const std::vector<std::string>& inputs,
                            const char* key) const {
  if (inputs.empty()) {
    fail(ErrorKind::kConfig, "{} names no file; set it to a .jsonl or .txt",
         key);
  }
  data::PrepareOptions options;
  options.inputs.assign(inputs.begin(), inputs.end());
  options.tokenizer = config_.data.tokenizer;
  options.append_end_of_text = config_.data.end_of_text;
  options.skip_bad_rows = config_.data.skip_bad_rows;
  options.row_template = config_.data.row_template;
  options.threads = static_cast<int>(config_.train.threads);
  auto shown = Clock::now();
  options.progress = [&](std::int64_t done, std::int64_t all) {
    if (seconds_since(shown) < 0.5) return;
    shown = Clock::now();
    log::progress(
        fmt::format("tokenizing {}: {:.0f}%", inputs[0],
                    100.0 * static_cast<double>(done) /
                        static_cast<double>(std::max<std::int64_t>(1, all))));
  };
  data::Dataset dataset = data::open_or_prepare(options, config_.data.cache);
  log::progress("");
  return dataset;
}

void Trainer::print_start(const Estimate& needs) const {
  const ModelConfig& m = config_.model;
  const ChainConfig& c = m.chain;
  log::info("run      {}", run_.path.string());
  log::info("device   {}, {}", backend_->description(),
            name(precision_.compute));
  log::info(
      "model    {}({}/{}): {} layers, hidden {}, {} parameters, {} "
      "active a token, {}FLOP a token",
      c.iterations == 1 ? "MoE" : fmt::format("CoE-{}", c.iterations), c.top_k,
      c.routed_experts + c.shared_experts, m.layers, m.hidden,
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
      "activations {}",
      human_bytes(needs.total_bytes()), human_bytes(needs.weight_bytes),
      human_bytes(needs.gradient_bytes), human_bytes(needs.optimizer_bytes),
      human_bytes(needs.activation_bytes));
  if (m.router.force_balanced) {
    log::warning(
        "model.router.force_balanced: experts are dealt out, not "
        "chosen; the losses mean nothing");
  }
}

double Trainer::validate(std::int64_t step) {
  const Validation::Result result = validation_.run(*model_);
  metrics_->write_validation(step, result.loss, result.trained_tokens);
  log::info("validation at step {}: loss {:.4f} over {} tokens", step,
            result.loss, result.trained_tokens);
  return result.loss;
}

void Trainer::report(StepReport& step, double seconds_so_far) {
  step.steps = config_.train.steps;
  step.peak_flops = peak_flops_;
  step.memory_bytes = resident_bytes();
  step.memory_peak_bytes = peak_resident_bytes();
  step.forced_balanced = config_.model.router.force_balanced;
  const bool last = step.step == step.steps || stop_signal() != 0;
  if (last || step.step % config_.metrics.every == 0) {
    metrics_->write_step(step);
  }
  const std::int64_t routing = config_.metrics.routing_every;
  if (routing > 0 && (last || step.step % routing == 0)) {
    metrics_->write_routing(step.step, model_->statistics());
  }
  static constexpr double kQuietSeconds = 1;
  static thread_local auto shown = Clock::time_point();
  if (!last && !log::terminal() && seconds_since(shown) < kQuietSeconds) {
    return;
  }
  shown = Clock::now();
  const double left = seconds_so_far / static_cast<double>(step.step) *
                      static_cast<double>(step.steps - step.step);
  log::progress(
      fmt::format("{}  eta {}", progress_text(step), human_seconds(left)));
}

void Trainer::finish(const Result& result) {
  save_weights(*model_, run_.weights(),
               {{"step", std::to_string(result.steps)}});
  const double speed =
      static_cast<double>(result.tokens) / std::max(result.seconds, 1e-9);
  nlohmann::ordered_json json{
      {"state", result.stopped ? "stopped" : "succeeded"},
      {"step", result.steps},
      {"steps", config_.train.steps},
      {"tokens", result.tokens},
      {"seconds", result.seconds},
      {"tokens_per_second", speed},
      {"validation_loss_before", result.validation_before},
      {"validation_loss_after", result.validation_after},
      {"memory_peak_bytes", peak_resident_bytes()}};
  write_file_atomically(run_.result(), json.dump(2) + "\n");
  log::info("{} {} steps, {} tokens in {}, {} tok/s, peak memory {}",
            result.stopped ? "stopped after" : "done:", result.steps,
            human_number(static_cast<double>(result.tokens)),
            human_seconds(result.seconds), human_number(speed),
            human_bytes(peak_resident_bytes()));
  log::info("validation loss {:.4f} before, {:.4f} after",
            result.validation_before, result.validation_after);
}

void Trainer::answer_prompts() {
  for (const std::string& prompt : config_.run.prompts) {
    std::printf("\nquestion: %s\nanswer:", prompt.c_str());
    generate(*model_, tokenizer_, question(config_.data.row_template, prompt),
             {}, [](std::string_view text) {
               std::fwrite(text.data(), 1, text.size(), stdout);
             });
    std::printf("\n");
  }
  std::fflush(stdout);
}

}  // namespace catena
