#include "training/step_trace.h"

#include "runtime/base/error.h"
#include "runtime/base/log.h"

namespace catena {

StepRange parse_trace(const std::string& text, std::int64_t most) {
  constexpr std::string_view kSteps = "steps=";
  const std::string said = "--trace " + text;
  if (!text.starts_with(kSteps)) {
    fail(ErrorKind::kUsage, "{}: name the steps, such as --trace steps=20:22",
         said);
  }
  const StepRange range = parse_steps(text.substr(kSteps.size()), said);
  if (range.first > most) {
    fail(ErrorKind::kUsage, "{}: the run ends at step {} (train.steps)", said,
         most);
  }
  return range;
}

StepTrace::StepTrace(const StepRange& steps, const Timeline::Owner& owner)
    : steps_(steps), owner_(owner) {}

void StepTrace::set_run(const RunFolder& run) {
  path_ = (run.shared.empty() ? run.path : run.shared) / "trace" /
          fmt::format("rank-{}.json", owner_.rank);
}

Transport* StepTrace::watch(Transport* inner) {
  if (inner == nullptr) return nullptr;
  transport_ = timeline_.watch(*inner);
  return transport_.get();
}

void StepTrace::begin_step(std::int64_t number) {
  if (written_ || !steps_.holds(number)) return;
  if (timeline_.empty()) {
    // Of a start before this one: other ranks' files would not fit it.
    std::error_code not_there;
    std::filesystem::remove(path_, not_there);
  }
  timeline_.begin_step(number);
}

void StepTrace::end_step() {
  if (timeline_.recording()) timeline_.end_step();
}

void StepTrace::after_step(std::int64_t step) {
  if (step == steps_.last) finish();
}

void StepTrace::finish() {
  if (written_) return;
  if (timeline_.empty()) {
    // A start before this one may have taken them.
    std::error_code unknown;
    if (!std::filesystem::exists(path_, unknown)) {
      log::warning("no trace: none of the steps of --trace was taken");
    }
    return;
  }
  written_ = true;
  try {
    timeline_.write(path_, owner_);
    const std::string run = path_.parent_path().parent_path().string();
    log::info("trace    {}; {}", path_.string(),
              owner_.ranks > 1 ? "of all ranks: catena trace merge " + run
                               : "ui.perfetto.dev opens it");
    if (timeline_.left_out() > 0) {
      log::warning(
          "{}: has no more than the first of its spans, {} are left "
          "out; trace fewer steps",
          path_.string(), timeline_.left_out());
    }
  } catch (const Error& error) {
    log::warning("the trace is lost: {}; training goes on", error.what());
  }
  timeline_.clear();
}

}  // namespace catena
