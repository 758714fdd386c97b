#include "training/checkpoint/writer.h"

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>

#include "runtime/base/error.h"
#include "runtime/base/log.h"
#include "training/checkpoint/manifest.h"
#include "training/checkpoint/reader.h"

namespace catena {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

// A name with a dot in front is never a checkpoint.
constexpr const char* kUnfinished = ".unfinished-";
constexpr const char* kRemoved = ".removed-";

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

/// The index that Hugging Face's library looks for beside numbered files.
std::string index_text(const Snapshot& model) {
  nlohmann::ordered_json map = nlohmann::ordered_json::object();
  for (const NamedArray& array : model.arrays()) map[array.name] = kModelFile;
  return nlohmann::ordered_json{{"metadata", {{"total_size", model.bytes()}}},
                                {"weight_map", map}}
             .dump(1) +
         "\n";
}

void make_folder(const fs::path& path) {
  std::error_code code;
  fs::create_directories(path, code);
  if (code) {
    fail(ErrorKind::kIo, "{}: cannot create folder: {}", path.string(),
         code.message());
  }
}

/// Removes a folder that was never finished, whatever ends the scope.
struct Unfinished {
  fs::path path;
  ~Unfinished() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
};

}  // namespace

std::string checkpoint_name(std::int64_t step) {
  return fmt::format("step-{:06}", step);
}

std::int64_t write_checkpoint(
    const fs::path& checkpoints, const Snapshot& model,
    const Snapshot& optimizer, const TrainingState& state,
    const std::function<void(const char* phase)>& phase) {
  const auto enter = [&](const char* name) {
    if (phase) phase(name);
  };
  const std::string name = checkpoint_name(state.step);
  const Unfinished folder{checkpoints / (kUnfinished + name)};
  // What an earlier one left when nothing could be removed takes room too.
  remove_unfinished_checkpoints(checkpoints);
  make_folder(folder.path);
  Manifest manifest{state.step, {}};
  enter("model");
  manifest.files.push_back(
      {kModelFile, write_safetensors(folder.path / kModelFile, model.arrays(),
                                     {{"step", std::to_string(state.step)}})});
  enter("index");
  manifest.files.push_back(
      {kIndexFile,
       write_file_atomically(folder.path / kIndexFile, index_text(model))});
  enter("optimizer");
  manifest.files.push_back(
      {kOptimizerFile,
       write_safetensors(folder.path / kOptimizerFile, optimizer.arrays(),
                         {{"step", std::to_string(state.step)}})});
  enter("state");
  manifest.files.push_back(
      {kStateFile,
       write_file_atomically(folder.path / kStateFile, state_text(state))});
  enter("manifest");
  std::int64_t bytes = 0;
  for (const auto& file : manifest.files) bytes += file.content.bytes;
  write_file_atomically(folder.path / kManifestFile, manifest_text(manifest));
  enter("rename");
  replace_folder(folder.path, checkpoints / name);
  sync_folder(checkpoints);
  enter("done");
  return bytes;
}

void remove_old_checkpoints(const fs::path& checkpoints,
                            const CheckpointConfig& config) {
  const std::vector<CheckpointPlace> newest_first =
      list_checkpoints(checkpoints);
  const auto count = static_cast<std::int64_t>(newest_first.size());
  const std::int64_t last = std::max<std::int64_t>(1, config.keep_last);
  std::int64_t marks = -1;  // multiples of keep_every behind the one before
  for (std::int64_t i = count - 1; i >= last; --i) {
    const CheckpointPlace& place = newest_first[static_cast<std::size_t>(i)];
    if (config.keep_every > 0 && place.step / config.keep_every > marks) {
      marks = place.step / config.keep_every;
      continue;
    }
    const fs::path gone =
        checkpoints / (kRemoved + place.folder.filename().string());
    std::error_code code;
    fs::rename(place.folder, gone, code);
    if (!code) fs::remove_all(gone, code);
  }
}

void remove_unfinished_checkpoints(const fs::path& checkpoints) {
  std::error_code code;
  for (const auto& entry : fs::directory_iterator(checkpoints, code)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with(kUnfinished) || name.starts_with(kRemoved)) {
      std::error_code ignored;
      fs::remove_all(entry.path(), ignored);
    }
  }
}

CheckpointWriter::CheckpointWriter(fs::path checkpoints,
                                   const CheckpointConfig& config, Model& model,
                                   const Optimizer& optimizer)
    : checkpoints_(std::move(checkpoints)),
      config_(config),
      model_(model.backend(), model_tensors(model)),
      optimizer_(model.backend(),
                 optimizer_tensors(model.parameters(), optimizer)) {
  remove_unfinished_checkpoints(checkpoints_);
}

CheckpointWriter::~CheckpointWriter() {
  if (pending_.valid()) pending_.wait();
}

void CheckpointWriter::check_folder() const {
  const fs::path probe = checkpoints_ / (std::string(kUnfinished) + "probe");
  std::error_code code;
  fs::create_directories(probe, code);
  if (code) {
    fail(ErrorKind::kIo,
         "{}: checkpoints cannot be saved there: {}; mend that, or choose "
         "another folder with --set run.folder=...",
         checkpoints_.string(), code.message());
  }
  fs::remove(probe, code);
  const fs::space_info space = fs::space(checkpoints_, code);
  const auto needed = static_cast<std::uintmax_t>(bytes());
  if (!code && space.available < needed) {
    log::warning("{}: has {} MiB free, a checkpoint takes {} MiB",
                 checkpoints_.string(), space.available >> 20, needed >> 20);
  }
}

bool CheckpointWriter::busy() const {
  return pending_.valid() && pending_.wait_for(std::chrono::seconds(0)) !=
                                 std::future_status::ready;
}

void CheckpointWriter::begin(const TrainingState& state) {
  CATENA_CHECK(!pending_.valid(), "[checkpoint] one is still under way");
  model_.capture();
  optimizer_.capture();
  state_ = state;
  Outcome outcome;
  outcome.step = state.step;
  pending_ = std::async(std::launch::async, [this, outcome]() mutable {
    const auto start = Clock::now();
    try {
      outcome.bytes =
          write_checkpoint(checkpoints_, model_, optimizer_, state_);
      remove_old_checkpoints(checkpoints_, config_);
    } catch (const std::exception& error) {
      outcome.error = error.what();
    }
    outcome.seconds = seconds_since(start);
    return outcome;
  });
}

std::optional<CheckpointWriter::Outcome> CheckpointWriter::poll() {
  if (!pending_.valid() || busy()) return std::nullopt;
  return wait();
}

std::optional<CheckpointWriter::Outcome> CheckpointWriter::wait() {
  if (!pending_.valid()) return std::nullopt;
  Outcome outcome = pending_.get();
  if (outcome.error.empty()) last_step_ = outcome.step;
  return outcome;
}

}  // namespace catena
