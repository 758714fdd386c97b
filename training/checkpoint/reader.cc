#include "training/checkpoint/reader.h"

#include <algorithm>
#include <charconv>

#include "runtime/base/error.h"
#include "runtime/base/files.h"
#include "runtime/base/log.h"
#include "training/checkpoint/manifest.h"
#include "training/checkpoint/writer.h"

namespace catena {
namespace {

namespace fs = std::filesystem;

/// Whether a checkpoint's place is taken by no other: see replace_folder().
bool stands_aside(const fs::path& folder) {
  const std::string name = folder.filename().string();
  std::error_code none;
  return name.ends_with(kReplaced) &&
         !fs::exists(folder.parent_path() /
                         name.substr(0, name.size() - kReplaced.size()),
                     none);
}

std::optional<std::int64_t> step_of(const fs::path& folder) {
  constexpr std::string_view kPrefix = "step-";
  std::string name = folder.filename().string();
  if (stands_aside(folder)) name.resize(name.size() - kReplaced.size());
  if (!name.starts_with(kPrefix)) return std::nullopt;
  std::int64_t step = 0;
  const char* const end = name.data() + name.size();
  const auto [stop, error] =
      std::from_chars(name.data() + kPrefix.size(), end, step);
  if (error != std::errc() || stop != end || checkpoint_name(step) != name) {
    return std::nullopt;
  }
  return step;
}

Manifest verify(const CheckpointPlace& place) {
  Manifest manifest = verify_checkpoint(place.folder);
  if (manifest.step != place.step) {
    fail(ErrorKind::kData, "{}: holds step {}: the folder was renamed",
         place.folder.string(), manifest.step);
  }
  return manifest;
}

bool is_valid(const CheckpointPlace& place) {
  try {
    (void)verify(place);
    return true;
  } catch (const Error&) {
    return false;
  }
}

/// What a checkpoint was asked for.
enum class Use { kGoOn, kWeights };

/// Throws `error` with what there is instead of `damaged`.
[[noreturn]] void offer_another(const Error& error, const fs::path& damaged,
                                Use use) {
  const fs::path checkpoints = damaged.parent_path();
  for (const CheckpointPlace& place : list_checkpoints(checkpoints)) {
    if (place.folder == damaged || !is_valid(place)) continue;
    const std::string folder = place.folder.string();
    const std::string advice =
        use == Use::kGoOn ? "to go on from it give --resume-from " + folder
                          : "to take its weights give that folder instead";
    fail(ErrorKind::kData, "{}\nThe newest valid checkpoint is {}; {}",
         error.what(), folder, advice);
  }
  fail(ErrorKind::kData, "{}\nThere is no other valid checkpoint in {}",
       error.what(), checkpoints.string());
}

std::optional<CheckpointPlace> newest_for(Use use,
                                          const fs::path& checkpoints) {
  const std::vector<CheckpointPlace> all = list_checkpoints(checkpoints);
  if (all.empty()) return std::nullopt;
  try {
    (void)verify(all[0]);
    return all[0];
  } catch (const Error& error) {
    offer_another(error, all[0].folder, use);
  }
}

}  // namespace

std::vector<CheckpointPlace> list_checkpoints(const fs::path& checkpoints) {
  std::vector<CheckpointPlace> result;
  std::error_code code;
  for (const auto& entry : fs::directory_iterator(checkpoints, code)) {
    const auto step = step_of(entry.path());
    if (step.has_value()) result.push_back({*step, entry.path()});
  }
  std::sort(result.begin(), result.end(),
            [](const auto& a, const auto& b) { return a.step > b.step; });
  return result;
}

std::optional<CheckpointPlace> newest_checkpoint(const fs::path& checkpoints) {
  return newest_for(Use::kGoOn, checkpoints);
}

std::optional<CheckpointPlace> newest_valid_checkpoint(
    const fs::path& checkpoints) {
  for (const CheckpointPlace& place : list_checkpoints(checkpoints)) {
    try {
      (void)verify(place);
      return place;
    } catch (const Error& error) {
      log::warning("{}\nIt is passed over", error.what());
    }
  }
  return std::nullopt;
}

CheckpointPlace open_checkpoint(const fs::path& folder) {
  const fs::path path = fs::absolute(folder / "").parent_path();
  const auto step = step_of(path);
  if (!step.has_value()) {
    fail(ErrorKind::kData,
         "{}: is no checkpoint: their folders are named step-000100 and the "
         "like, in RUN/checkpoints",
         folder.string());
  }
  const CheckpointPlace place{*step, path};
  try {
    (void)verify(place);
  } catch (const Error& error) {
    offer_another(error, path, Use::kGoOn);
  }
  return place;
}

std::int64_t set_aside_after(std::int64_t step, const fs::path& checkpoints) {
  std::int64_t count = 0;
  for (const CheckpointPlace& place : list_checkpoints(checkpoints)) {
    if (place.step <= step) continue;
    const fs::path aside =
        checkpoints / ("abandoned-" + place.folder.filename().string());
    std::error_code code;
    fs::remove_all(aside, code);
    fs::rename(place.folder, aside, code);
    if (code) {
      fail(ErrorKind::kIo, "{}: cannot be renamed: {}", place.folder.string(),
           code.message());
    }
    ++count;
  }
  return count;
}

TrainingState read_state(const fs::path& folder) {
  const fs::path path = folder / kStateFile;
  TrainingState state = parse_state(read_file(path), path.string());
  const Manifest manifest = parse_manifest(read_file(folder / kManifestFile),
                                           (folder / kManifestFile).string());
  if (manifest.step != state.step) {
    fail(ErrorKind::kData, "{}: is of step {}, the manifest of step {}",
         path.string(), state.step, manifest.step);
  }
  return state;
}

void restore(const fs::path& folder, Model& model, const Optimizer& optimizer) {
  load_weights(model, folder);
  load_tensors(model.backend(),
               optimizer_tensors(model.parameters(), optimizer),
               tensor_files(folder, "optimizer"), model.ranks() == nullptr);
}

namespace {

/// One file, or the folder of several.
fs::path weights_in(const fs::path& checkpoint) {
  const fs::path file = checkpoint / part_name("model", {});
  return fs::exists(file) ? file : checkpoint;
}

}  // namespace

fs::path find_weights(const fs::path& path) {
  if (!fs::exists(path)) {
    fail(ErrorKind::kData, "{}: does not exist", path.string());
  }
  if (!fs::is_directory(path)) return path;
  if (fs::exists(path / kManifestFile)) {
    try {
      (void)verify_checkpoint(path);
    } catch (const Error& error) {
      offer_another(error, fs::absolute(path / "").parent_path(),
                    Use::kWeights);
    }
    return weights_in(path);
  }
  const auto newest = newest_for(Use::kWeights, path / "checkpoints");
  if (!newest.has_value()) {
    fail(ErrorKind::kData,
         "{}: has no checkpoint; give a run that has saved one, a "
         "checkpoint's folder, or a .safetensors file",
         path.string());
  }
  return weights_in(newest->folder);
}

}  // namespace catena
