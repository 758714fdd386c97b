#pragma once

#include <cmath>
#include <fstream>
#include <functional>
#include <vector>

#include "tests/support/json.h"
#include "tests/training/command_fixture.h"
#include "training/checkpoint/manifest.h"
#include "training/checkpoint/reader.h"
#include "training/checkpoint/writer.h"

namespace catena {

/// Runs of a tiny model with many checkpoints, and what they leave.
/// `run` is a run's folder, within the folder of the test.
class RunFixture : public CommandFixture {
 protected:
  /// 30 steps, a checkpoint every third.
  [[nodiscard]] std::string small(const std::string& run,
                                  const std::string& more = "") const {
    return fmt::format(
        "train '{0}/tiny.toml' --set run.folder='{0}/{1}' --set "
        "data.cache='{0}/cache' --set train.steps=30 --set validation.every=0 "
        "--set run.prompts= --set checkpoint.every=3 {2}",
        folder_.string(), run, more);
  }
  [[nodiscard]] fs::path checkpoints(const std::string& run) const {
    return folder_ / run / "checkpoints";
  }
  /// Weights and moments of a run's newest checkpoint, as bytes.
  [[nodiscard]] std::string final_state(const std::string& run) const {
    const auto place = newest_checkpoint(checkpoints(run));
    if (!place.has_value()) return "nothing";
    return read_file(place->folder / kModelFile) +
           read_file(place->folder / kOptimizerFile);
  }
  /// In the run's newest checkpoint, which stays a whole one.
  void scale_probe_loss(const std::string& run, double factor) const {
    const fs::path newest = newest_checkpoint(checkpoints(run))->folder;
    TrainingState state = read_state(newest);
    ASSERT_TRUE(std::isfinite(state.probe_loss));
    state.probe_loss *= factor;
    Manifest manifest = verify_checkpoint(newest);
    for (Manifest::File& file : manifest.files) {
      if (file.name != kStateFile) continue;
      file.content =
          write_file_atomically(newest / kStateFile, state_text(state));
    }
    write_file_atomically(newest / kManifestFile, manifest_text(manifest));
  }
  [[nodiscard]] nlohmann::json result(const std::string& run) const {
    return json_of(read_file(folder_ / run / "result.json"));
  }
  /// The whole lines of metrics.jsonl so far.
  [[nodiscard]] std::vector<nlohmann::json> metrics(
      const std::string& run) const {
    std::vector<nlohmann::json> lines;
    std::ifstream file(folder_ / run / "metrics.jsonl");
    for (std::string line; std::getline(file, line);) {
      auto json = json_if_whole(line);
      if (json.is_object()) lines.push_back(std::move(json));
    }
    return lines;
  }
  /// The training losses among them, step by step.
  [[nodiscard]] std::vector<std::pair<std::int64_t, double>> losses(
      const std::string& run) const {
    std::vector<std::pair<std::int64_t, double>> found;
    for (const auto& line : metrics(run)) {
      if (!line.contains("catena_loss")) continue;
      const auto& loss = line["catena_loss"];
      if (!loss.contains("train")) continue;
      found.emplace_back(line["catena_step"].get<std::int64_t>(),
                         loss["train"].get<double>());
    }
    return found;
  }
  /// The steps of events such as "checkpoint", in order.
  [[nodiscard]] std::vector<std::int64_t> events(
      const std::string& run, const std::string& event) const {
    std::vector<std::int64_t> steps;
    for (const auto& line : metrics(run)) {
      if (line.value("catena_event", "") == event) {
        steps.push_back(line["catena_step"].get<std::int64_t>());
      }
    }
    return steps;
  }
  /// Two minutes at most.
  static void wait_until(const char* what,
                         const std::function<bool()>& happened) {
    for (int i = 0; i < 12000; ++i) {
      if (happened()) return;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    ADD_FAILURE() << "in vain: " << what;
  }
  void wait_for_step(const std::string& run, std::int64_t step) const {
    wait_until("a step", [&] {
      const auto all = losses(run);
      return !all.empty() && all.back().first >= step;
    });
  }
  /// Returns the step of the newest such event, once there are `count`.
  std::int64_t wait_for_event(const std::string& run, const std::string& event,
                              std::size_t count = 1) const {
    std::vector<std::int64_t> steps;
    wait_until(event.c_str(), [&] {
      steps = events(run, event);
      return steps.size() >= count;
    });
    return steps.empty() ? -1 : steps.back();
  }
  void wait_for_words(const std::string& words) const {
    wait_until(words.c_str(), [&] {
      return read_file(folder_ / "err").find(words) != std::string::npos;
    });
  }
};

}  // namespace catena
