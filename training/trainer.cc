#include "training/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "launcher/contract.h"
#include "parallel/nodes.h"
#include "runtime/base/files.h"
#include "runtime/base/log.h"
#include "runtime/base/machine.h"
#include "training/checkpoint/reader.h"
#include "training/control_line.h"
#include "training/generate.h"
#include "training/plan.h"
#include "training/stop.h"

namespace catena {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

std::unique_ptr<Backend> make_backend(const Config& config, StepTrace* trace) {
  auto backend = make_cpu_backend(static_cast<int>(config.train.threads));
  return trace != nullptr ? trace->watch(std::move(backend))
                          : std::move(backend);
}

std::unique_ptr<Ranks> make_ranks(const Config& config, Transport* transport,
                                  Backend& backend) {
  if (transport == nullptr || transport->size() == 1) return nullptr;
  const Communicator::Deadline deadline(config.parallel.timeout);
  // Found whatever the key says: ranks that were told differently are refused
  // later, by name.
  const int found =
      find_ranks_per_node(*transport, transport->node(), deadline);
  Config with_nodes = config;
  if (with_nodes.parallel.ranks_per_node == 0) {
    with_nodes.parallel.ranks_per_node = found;
  }
  const Mesh mesh = with_nodes.mesh(transport->size());
  return std::make_unique<Ranks>(
      *transport, backend, mesh, config.placements(mesh), deadline,
      config.dispatch_rules(config.micro_rows(transport->size())));
}

}  // namespace

Trainer::Result Trainer::run() {
  install_stop_signals();
  try {
    return run_to_end();
  } catch (const std::exception& error) {
    if (trace_ != nullptr) {
      trace_->end_step();
      trace_->finish();
    }
    try {
      write_result(result_so_far(), "failed", error.what());
    } catch (const Error& unwritten) {
      log::warning("{}", unwritten.what());
    }
    // As long as there is what others may still write into.
    if (ranks_ != nullptr && !ranks_->world().transport().abandons_by_exit()) {
      ranks_->world().transport().abandon(error.what());
    }
    throw;
  }
}

Trainer::Result Trainer::result_so_far() const {
  return {.steps = state_.step,
          .tokens = state_.tokens,
          .seconds = state_.seconds,
          .validation_before = state_.validation_before,
          .stopped = state_.step < config_.train.steps};
}

Trainer::Result Trainer::run_to_end() {
  if (state_.step == 0) state_.validation_before = validate(0);
  backend_->kernels().reset_counts();
  StepReport report;
  data::Batch batch;
  const double seconds_before = state_.seconds;
  const auto begin = Clock::now();
  while (state_.step < config_.train.steps && !stopping_) {
    control_line::say_section(kSectionStep);
    // What ranks exchanged before or between is no part of a step.
    if (ranks_ != nullptr) static_cast<void>(ranks_->take_traffic());
    const auto step_begin = Clock::now();
    const double flops_before = product_flops(backend_->kernels());
    if (trace_ != nullptr) trace_->begin_step(state_.step + 1);
    sampler_->next(config_.rows_per_step(), batch);
    take_step(batch, report);
    if (trace_ != nullptr) trace_->end_step();
    report.seconds = seconds_since(step_begin);
    report.flops = product_flops(backend_->kernels()) - flops_before;
    if (ranks_ != nullptr) report.traffic = ranks_->take_traffic();
    if (routes_) routes_->end();
    state_.seconds = seconds_before + seconds_since(begin);
    agree_on_requests();
    this->report(report, seconds_since(begin));
    if (trace_ != nullptr) trace_->after_step(report.step);
    note(writer_->poll());
    anonymous_peak_ = std::max(anonymous_peak_, anonymous_bytes());
    if (state_.step == config_.train.steps || stopping_) break;
    const std::int64_t validation = config_.validation.every;
    if (validation > 0 && state_.step % validation == 0) {
      validate(state_.step);
      // It may have taken longer than a step.
      agree_on_requests();
    }
    const std::int64_t every = config_.checkpoint.every;
    checkpoint_due_ |= every > 0 && state_.step % every == 0;
    if (checkpoint_due_) save();
  }
  const double step_seconds = seconds_since(begin);
  log::progress("");
  Result result = result_so_far();
  // First what must not be lost: who stops a run does not wait long.
  save_last();
  control_line::say_section(kSectionEnd);
  if (routes_) routes_->finish();
  if (trace_ != nullptr) trace_->finish();
  restore_stop_signals();
  save_kernel_table(step_seconds);
  if (!result.stopped) result.validation_after = validate(state_.step);
  control_line::say_section(kSectionEnd);
  write_result(result, result.stopped ? "stopped" : "succeeded");
  return result;
}

void Trainer::take_step(const data::Batch& batch, StepReport& report) {
  const std::int64_t number = state_.step + 1;
  if (routes_) routes_->begin(batch, number);
  step_->compute(batch, number, report);
  state_.sampler = sampler_->state();
  state_.tokens += report.tokens;
  report.total_tokens = state_.tokens;
  report.epoch = static_cast<double>(sampler_->epoch());
  const bool guarded = config_.spikes.action != "off";
  if (!guarded &&
      !(std::isfinite(report.loss) && std::isfinite(report.gradient_norm))) {
    step_->diagnose(batch, number);
  }
  const std::string why =
      guarded ? guard_.judge(report.loss, report.gradient_norm) : "";
  state_.step = number;
  if (why.empty()) {
    step_->apply(report);
    guard_.accept(report.loss, report.gradient_norm);
    guard_.state().in_a_row = 0;
    return;
  }
  step_->discard();
  if (++guard_.state().in_a_row > config_.spikes.most_in_a_row) {
    fail(ErrorKind::kNonFinite,
         "step {}: {}, and so were the {} steps before it; {}. Lower "
         "learning_rate.peak, or raise spikes.deviations",
         number, why, guard_.state().in_a_row - 1, say_what_is_saved());
  }
  if (config_.spikes.action == "rewind") {
    rewind(why, number);
  } else {
    leave_out(why, number);
  }
}

void Trainer::leave_out(const std::string& why, std::int64_t number) {
  ++guard_.state().skipped;
  log::warning("step {}: {}; skipped ({} so far)", number, why,
               guard_.state().skipped);
  metrics_->write_event("step_skipped", number,
                        nlohmann::json{{"reason", why}}.dump());
}

Trainer::Trainer(const config::Schema& schema, const Config& config,
                 const RunFolder& run, const TrainerStart& start,
                 Transport* transport, const RoutingFiles& routing,
                 StepTrace* trace)
    : config_(config),
      run_(run),
      trace_(trace),
      tokenizer_(load_tokenizer(config)),
      backend_(make_backend(config, trace)),
      precision_(resolve_precision(config.train.precision, *backend_)),
      ranks_(make_ranks(config, transport, *backend_)),
      train_data_(open_in_turn(config.data.train, "data.train")),
      validation_data_(open_in_turn(config.data.validation, "data.validation")),
      validation_(validation_data_, sampler_options(config, tokenizer_),
                  config),
      guard_(config.spikes) {
  if (tokenizer_.vocabulary_size() > config.model.vocabulary) {
    fail(ErrorKind::kConfig,
         "model.vocabulary is {}, but {} has {} tokens; set "
         "model.vocabulary = {} or more",
         config.model.vocabulary, config.data.tokenizer,
         tokenizer_.vocabulary_size(), tokenizer_.vocabulary_size());
  }
  describe_state(schema);
  check_alike();
  const Estimate needs =
      ranks_ == nullptr
          ? estimate(config, precision_)
          : estimate(config, precision_, ranks_->mesh(), ranks_->rank());
  check_fits(needs, config, memory_sharers(needs));
  planned_bytes_ = needs.total_bytes();
  print_start(needs);
  model_ = std::make_unique<Model>(*backend_, config.model, precision_,
                                   ranks_.get());
  optimizer_ = std::make_unique<Optimizer>(model_->parameters(),
                                           config.optimizer, ranks_.get());
  step_ = std::make_unique<Step>(*model_, *optimizer_, config);
  step_->reserve(needs.chunks);
  if (routing.record.has_value() || routing.replay.has_value()) {
    routes_ =
        std::make_unique<RouteRecorder>(routing, config.model, ranks_.get());
    step_->set_observer(routes_.get());
  }
  sampler_ = std::make_unique<data::Sampler>(
      train_data_, sampler_options(config_, tokenizer_));
  writer_ = std::make_unique<CheckpointWriter>(
      run_.checkpoints(), config.checkpoint, *model_, *optimizer_);
  if (start.resume.has_value()) {
    resume(*start.resume);
  } else {
    model_->parameters().initialize(
        static_cast<std::uint64_t>(config.train.seed));
    if (start.weights.has_value()) {
      const std::filesystem::path file = find_weights(*start.weights);
      load_weights(*model_, file);
      log::info("weights  {}", file.string());
    }
  }
  // Nothing of the run was touched so far: it might have been refused.
  if (leads()) writer_->check_folder();
  save_tokenizer(tokenizer_, config, run_);
  std::filesystem::remove(run_.result());  // it has not ended yet
  first_step_ = state_.step;
  keep_metrics_up_to(state_.step, run_.path);
  metrics_ = std::make_unique<MetricsWriter>(run_.path, make_event_file());
  peak_flops_ = probe_peak_flops(*backend_, precision_.compute);
  log::info("peak     {}FLOP/s measured", human_number(peak_flops_));
}

Trainer::~Trainer() = default;

double Trainer::validate(std::int64_t step) {
  control_line::say_section(kSectionValidation);
  const Validation::Result result = validation_.run(*model_, step_->chunk());
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
  step.replayed = routes_ != nullptr && routes_->replays();
  control_line::say_step(step.step);
  const bool last = step.step == step.steps || stopping_;
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
  const double left = seconds_so_far /
                      static_cast<double>(step.step - first_step_) *
                      static_cast<double>(step.steps - step.step);
  log::progress(
      fmt::format("{}  eta {}", progress_text(step), human_seconds(left)));
}

void Trainer::save_kernel_table(double seconds) {
  KernelTable table;
  table.layout = state_.layout;
  table.step_seconds = seconds;
  for (const KernelCount& count : backend_->kernels()) {
    table.kernels[std::string(count.name)] = {count.cost, count.seconds};
  }
  table_ = std::move(table);
  constexpr std::int64_t kFewest = 10;
  // Of one rank alone: with several, kernels share the machine.
  if (state_.step - first_step_ < kFewest || ranks_ != nullptr) return;
  try {
    catena::save(table_,
                 kernel_table_path(config_.data.cache, precision_.compute));
  } catch (const Error& error) {
    log::warning("no kernel table is kept: {}", error.what());
  }
}

void Trainer::write_result(const Result& result, const char* state,
                           const char* error) {
  const double speed =
      static_cast<double>(result.tokens) / std::max(result.seconds, 1e-9);
  nlohmann::ordered_json json{
      {"state", state},
      {"error", nullptr},
      {"step", result.steps},
      {"steps", config_.train.steps},
      {"tokens", result.tokens},
      {"seconds", result.seconds},
      {"tokens_per_second", speed},
      {"validation_loss_before", result.validation_before},
      {"validation_loss_after", nullptr},
      {"steps_skipped", guard_.state().skipped},
      {"rewinds", guard_.state().rewound},
      {"checkpoints_failed", checkpoints_failed_},
      {"checkpoint_error", nullptr},
      {"memory_peak_bytes", peak_resident_bytes()},
      {"memory_planned_bytes", planned_bytes_},
      {"memory_anonymous_bytes", anonymous_peak_ - anonymous_at_start_}};
  for (const auto& [name, entry] : table_.kernels) {
    json["kernel_seconds"][name] = entry.seconds;
  }
  json["kernel_seconds"]["everything else"] =
      table_.step_seconds - table_.kernel_seconds();
  const bool forced = config_.model.router.force_balanced;
  const bool replayed = routes_ != nullptr && routes_->replays();
  if (forced) json["forced_balanced"] = true;
  if (replayed) json["routes_replayed"] = true;
  if (error != nullptr) json["error"] = error;
  if (checkpoints_failed_ > 0) json["checkpoint_error"] = checkpoint_error_;
  const bool whole = std::string_view(state) == "succeeded";
  if (whole) json["validation_loss_after"] = result.validation_after;
  write_file_atomically(
      run_.result(),
      json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) +
          "\n");
  log::info("{} {} steps, {} tokens in {}, {} tok/s, peak memory {}{}",
            whole ? "done:" : "stopped after", result.steps,
            human_number(static_cast<double>(result.tokens)),
            human_seconds(result.seconds), human_number(speed),
            human_bytes(peak_resident_bytes()),
            forced     ? ", FORCED BALANCED"
            : replayed ? ", ROUTES REPLAYED"
                       : "");
  if (checkpoints_failed_ > 0) {
    log::warning("{} checkpoints could not be written, the last because {}",
                 checkpoints_failed_, checkpoint_error_);
  }
  if (whole) {
    log::info("validation loss {:.4f} before, {:.4f} after",
              result.validation_before, result.validation_after);
  }
}

void Trainer::answer_prompts() {
  for (const std::string& prompt : config_.run.prompts) {
    if (leads()) std::printf("\nquestion: %s\nanswer:", prompt.c_str());
    const auto show = [this](std::string_view text) {
      if (leads()) std::fwrite(text.data(), 1, text.size(), stdout);
    };
    try {
      generate(*model_, tokenizer_, question(config_.data.row_template, prompt),
               {}, show);
    } catch (const Error& error) {
      // The run has ended well, whatever is wrong with the question.
      if (error.kind() != ErrorKind::kUsage) throw;
      log::warning("run.prompts: not answered: {}", error.what());
    }
    if (leads()) std::printf("\n");
  }
  std::fflush(stdout);
}

}  // namespace catena
