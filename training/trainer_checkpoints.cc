// The part of Trainer that writes checkpoints and goes back to them.

#include <algorithm>
#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>

#include "launcher/contract.h"
#include "runtime/base/log.h"
#include "training/checkpoint/reader.h"
#include "training/control_line.h"
#include "training/trainer.h"

namespace catena {

void Trainer::rewind(const std::string& why, std::int64_t number) {
  control_line::say_section(kSectionLoad);
  note(writer_->wait());
  const auto place = agree_on_newest();
  if (!place.has_value()) return leave_out(why, number);
  restore(place->folder, *model_, *optimizer_);
  rewinds_here_ = place->step == rewound_to_ ? rewinds_here_ + 1 : 1;
  rewound_to_ = place->step;
  if (rewinds_here_ > config_.spikes.most_in_a_row) {
    fail(ErrorKind::kNonFinite,
         "step {}: {}, after {} rewinds to {}. Lower learning_rate.peak, or "
         "raise spikes.deviations",
         number, why, rewinds_here_ - 1, place->folder.string());
  }
  SpikeGuard::State then = read_state(place->folder).spikes;
  then.in_a_row = guard_.state().in_a_row;
  then.skipped = guard_.state().skipped;
  then.rewound = guard_.state().rewound + 1;
  guard_.state() = then;
  state_.step = place->step;
  log::warning("step {}: {}; back to step {}, the data since is not used again",
               number, why, place->step);
  metrics_->write_event(
      "rewound", number,
      nlohmann::json{{"reason", why}, {"to_step", place->step}}.dump());
}

void Trainer::resume(const std::filesystem::path& checkpoint) {
  const TrainingState before = read_state(checkpoint);
  const std::vector<ConfigDifference> changed =
      check_resumable(before, state_, checkpoint);
  for (const ConfigDifference& d : changed) {
    if (d.key.starts_with("run.")) continue;
    log::info("resume   {} was {}, now {}", d.key, d.before, d.now);
  }
  if (before.step > config_.train.steps) {
    fail(ErrorKind::kConfig,
         "train.steps is {}, and {} is at step {}; set train.steps higher, or "
         "resume from an earlier checkpoint with --resume-from",
         config_.train.steps, checkpoint.string(), before.step);
  }
  restore(checkpoint, *model_, *optimizer_);
  sampler_->restore(before.sampler);
  guard_.state() = before.spikes;
  check_probe(before, changed);
  state_.step = before.step;
  state_.tokens = before.tokens;
  state_.seconds = before.seconds;
  state_.validation_before = before.validation_before;
  state_.sampler = before.sampler;
  const std::int64_t aside =
      leads() ? set_aside_after(before.step, run_.checkpoints()) : 0;
  if (aside > 0) {
    log::info("resume   {} later checkpoints are now {}/abandoned-step-...",
              aside, run_.checkpoints().string());
  }
  log::info("resumed  {}, {} tokens so far", checkpoint.string(),
            human_number(static_cast<double>(before.tokens)));
}

// The stored loss of the stored weights, formed again: what is in memory now
// is what was in memory then.
void Trainer::check_probe(const TrainingState& before,
                          const std::vector<ConfigDifference>& changed) {
  const double now = validation_.probe(*model_, step_->chunk());
  const auto is_changed = [&](std::string_view start) {
    return std::any_of(changed.begin(), changed.end(),
                       [&](const auto& d) { return d.key.starts_with(start); });
  };
  const bool same = before.layout == state_.layout && !is_changed("parallel.");
  if (now == before.probe_loss || std::isnan(before.probe_loss)) return;
  const bool same_row = before.validation_hash == state_.validation_hash;
  if (!same_row) return;
  // Other ranks, another placement or processor order sums otherwise: a close
  // route may flip. Another type, and bfloat16, round everything.
  const bool rounds_alike =
      precision_.compute != DType::kBFloat16 && !is_changed("parallel.wire") &&
      before.layout.ends_with(fmt::format(", {}", name(precision_.compute)));
  // One token of the row may change by hundredths of its loss then.
  const double flip = 1e-2 / static_cast<double>(config_.data.sequence);
  const double tolerance = same           ? 1e-5
                           : rounds_alike ? std::max(1e-4, flip)
                                          : 2e-2;
  const double apart = std::abs(now - before.probe_loss);
  if (!(apart <= tolerance * std::abs(before.probe_loss))) {
    fail(ErrorKind::kData,
         "the checkpoint's weights give a loss of {:.6f} on its probe row, and "
         "gave {:.6f} when it was written: it is not what was saved, or this "
         "program computes something else",
         now, before.probe_loss);
  }
  log::write(same ? log::Level::kWarning : log::Level::kInfo,
             fmt::format("resume   probe loss {:.9f}, was {:.9f} on \"{}\"",
                         now, before.probe_loss, before.layout));
}

void Trainer::save() {
  // Training does not wait for a slow disk; this one is saved a little late.
  if (writer_->busy()) return;
  control_line::say_section(kSectionCheckpoint);
  using Clock = std::chrono::steady_clock;
  const auto begin = Clock::now();
  state_.spikes = guard_.state();
  state_.probe_loss = validation_.probe(*model_, step_->chunk());
  writer_->begin(state_);
  stall_seconds_ = std::chrono::duration<double>(Clock::now() - begin).count();
  checkpoint_due_ = false;
}

void Trainer::save_last() {
  control_line::say_section(kSectionCheckpoint);
  note(writer_->wait());
  if (writer_->last_step() == state_.step ||
      (state_.step == first_step_ && first_step_ > 0)) {
    return;
  }
  save();
  const auto outcome = writer_->wait();
  if (outcome.has_value() && !outcome->error.empty()) {
    note_failure(*outcome);
    throw Error(ErrorKind::kIo, outcome->error);
  }
  note(outcome);
}

std::string Trainer::say_what_is_saved() {
  note(writer_->wait());
  const auto saved = list_checkpoints(run_.checkpoints());
  if (saved.empty()) return "no weights were saved";
  return fmt::format("the last saved weights are in {}",
                     saved.front().folder.string());
}

void Trainer::note_failure(const CheckpointWriter::Outcome& outcome) {
  ++checkpoints_failed_;
  checkpoint_error_ = outcome.error;
  // A path need not be UTF-8.
  metrics_->write_event(
      "checkpoint_failed", outcome.step,
      nlohmann::json{{"reason", outcome.error}}.dump(
          -1, ' ', false, nlohmann::json::error_handler_t::replace));
}

void Trainer::note(const std::optional<CheckpointWriter::Outcome>& outcome) {
  if (!outcome.has_value()) return;
  if (!outcome->error.empty()) {
    log::warning("checkpoint of step {} failed: {}; training goes on",
                 outcome->step, outcome->error);
    return note_failure(*outcome);
  }
  log::info("checkpoint {} ({}, stall {:.0f} ms, written in {:.2f} s)",
            (run_.checkpoints() / checkpoint_name(outcome->step)).string(),
            human_bytes(outcome->bytes), 1000 * stall_seconds_,
            outcome->seconds);
  metrics_->write_event(
      "checkpoint", outcome->step,
      nlohmann::json{{"catena_checkpoint_bytes", outcome->bytes},
                     {"catena_checkpoint_stall_seconds", stall_seconds_},
                     {"catena_checkpoint_write_seconds", outcome->seconds}}
          .dump());
}

}  // namespace catena
