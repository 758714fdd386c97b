#include "launcher/monitor/run_view.h"

#include <limits>

namespace catena::launcher {
namespace {

std::string text(const nlohmann::json& json, const char* key) {
  if (!json.is_object()) return {};
  const auto found = json.find(key);
  return found != json.end() && found->is_string() ? found->get<std::string>()
                                                   : std::string();
}

}  // namespace

// 4 ms to 2,100 s.
RankView::RankView(int number) : rank(number), durations(doubling(0.004, 20)) {}

// Checkpoints: 1 ms to 16,000 s.
RunView::RunView()
    : series(kColumns.size(), kMostPoints),
      validation(1, kMostPoints),
      validation_loss(std::numeric_limits<double>::quiet_NaN()),
      checkpoint_stall(doubling(0.001, 25)),
      checkpoint_write(doubling(0.001, 25)) {}

std::string RunView::state() const {
  const std::string of_job = text(job, "state");
  if (!of_job.empty()) return of_job;
  const std::string of_run = text(result, "state");
  if (of_run == "succeeded") return "SUCCEEDED";
  if (of_run == "failed") return "FAILED";
  if (of_run == "stopped") return "PREEMPTED";
  return "RUNNING";
}

bool RunView::ended() const {
  const std::string now = state();
  return now == "SUCCEEDED" || now == "FAILED" || now == "PREEMPTED" ||
         now == "CANCELLED";
}

}  // namespace catena::launcher
