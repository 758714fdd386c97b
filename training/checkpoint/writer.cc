#include "training/checkpoint/writer.h"

#include <algorithm>
#include <chrono>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <thread>

#include "runtime/base/error.h"
#include "training/checkpoint/manifest.h"
#include "training/checkpoint/reader.h"

namespace catena {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

// A name with a dot in front is never a checkpoint.
constexpr const char* kUnfinished = ".unfinished-";
constexpr const char* kRemoved = ".removed-";

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

using Json = nlohmann::ordered_json;

std::vector<std::string> names_of(const Snapshot& snapshot) {
  std::vector<std::string> names;
  for (const NamedArray& array : snapshot.arrays()) {
    names.push_back(array.name);
  }
  return names;
}

/// The index that Hugging Face's library looks for beside numbered files, and
/// the names of all tensors.
class Index {
 public:
  void add(const std::string& file, const std::vector<std::string>& tensors,
           std::int64_t bytes) {
    for (const std::string& tensor : tensors) map_[tensor] = file;
    bytes_ += bytes;
    add_names(tensors);
  }
  void add_names(const std::vector<std::string>& names) {
    names_.insert(names_.end(), names.begin(), names.end());
  }
  /// What is missing now would be noticed only by whoever goes on from it.
  void check(const std::set<std::string>& expected) {
    std::sort(names_.begin(), names_.end());
    const auto twice = std::adjacent_find(names_.begin(), names_.end());
    if (twice != names_.end()) {
      fail(ErrorKind::kInternal,
           "the checkpoint holds tensor {} twice; please report this", *twice);
    }
    std::vector<std::string> missing;
    std::set_difference(expected.begin(), expected.end(), names_.begin(),
                        names_.end(), std::back_inserter(missing));
    if (missing.empty()) return;
    fail(ErrorKind::kInternal,
         "the checkpoint lacks {} of {} tensors, such as {}; please report "
         "this",
         missing.size(), expected.size(), missing.front());
  }
  [[nodiscard]] std::string text() const {
    return Json{{"metadata", {{"total_size", bytes_}}}, {"weight_map", map_}}
               .dump(1) +
           "\n";
  }

 private:
  Json map_ = Json::object();
  std::int64_t bytes_ = 0;
  std::vector<std::string> names_;
};

std::string note_name(const WriterPart& part) {
  return fmt::format("part-{:05}.json", part.number + 1);
}

/// A rank's tensors, and a note of them for the first.
std::int64_t write_part(const fs::path& folder, const Snapshot& model,
                        const Snapshot& optimizer, std::int64_t step,
                        const WriterPart& part) {
  Json note{{"files", Json::array()},
            {"tensors", names_of(model)},
            {"tensor_bytes", model.bytes()},
            {"moments", names_of(optimizer)}};
  std::int64_t bytes = 0;
  for (const auto& [prefix, snapshot] :
       {std::pair{"model", &model}, std::pair{"optimizer", &optimizer}}) {
    const std::string name = part_name(prefix, part);
    const WrittenFile file = write_safetensors(
        folder / name, snapshot->arrays(), {{"step", std::to_string(step)}});
    bytes += file.bytes;
    note["files"].push_back(
        {{"name", name}, {"bytes", file.bytes}, {"hash", file.hash}});
  }
  write_file_atomically(folder / note_name(part), note.dump());
  return bytes;
}

/// Waits for the note of another part, and enters what it says.
void take_note(const fs::path& folder, const WriterPart& part,
               Manifest& manifest, Index& index) {
  constexpr std::chrono::seconds kDeadline(600);
  constexpr std::chrono::milliseconds kNap(2);
  const fs::path path = folder / note_name(part);
  const auto begin = Clock::now();
  while (!fs::exists(path)) {
    if (part.give_up != nullptr && *part.give_up) {
      fail(ErrorKind::kIo, "{}: given up, as not all parts were written",
           folder.string());
    }
    // Who may be told to give up is told, however slow a disk is.
    if (part.give_up == nullptr && Clock::now() - begin > kDeadline) {
      fail(ErrorKind::kIo,
           "{}: rank {} has not written its part of the checkpoint in {} s",
           folder.string(), part.number, kDeadline.count());
    }
    std::this_thread::sleep_for(kNap);
  }
  const Json note = Json::parse(read_file(path));
  for (const Json& file : note.at("files")) {
    manifest.files.push_back({file.at("name").get<std::string>(),
                              {file.at("bytes").get<std::int64_t>(),
                               file.at("hash").get<std::uint64_t>()}});
  }
  index.add(part_name("model", part),
            note.at("tensors").get<std::vector<std::string>>(),
            note.at("tensor_bytes").get<std::int64_t>());
  index.add_names(note.at("moments").get<std::vector<std::string>>());
  fs::remove(path);
}

}  // namespace

std::string checkpoint_name(std::int64_t step) {
  return fmt::format("step-{:06}", step);
}

std::string part_name(const std::string& prefix, const WriterPart& part) {
  return fmt::format("{}-{:05}-of-{:05}.safetensors", prefix, part.number + 1,
                     part.count);
}

void prepare_checkpoint(const fs::path& checkpoints, std::int64_t step) {
  // What an earlier one left when nothing could be removed takes room too.
  remove_unfinished_checkpoints(checkpoints);
  make_folder(checkpoints / (kUnfinished + checkpoint_name(step)));
}

std::int64_t write_checkpoint(
    const fs::path& checkpoints, const Snapshot& model,
    const Snapshot& optimizer, const TrainingState& state,
    const std::function<void(const char* phase)>& phase,
    const WriterPart& part) {
  const auto enter = [&](const char* name) {
    if (phase) phase(name);
  };
  const std::string name = checkpoint_name(state.step);
  const fs::path unfinished = checkpoints / (kUnfinished + name);
  if (part.number < 0) return 0;
  if (part.number > 0) {
    return write_part(unfinished, model, optimizer, state.step, part);
  }
  const Unfinished folder{unfinished};
  if (part.count == 1) prepare_checkpoint(checkpoints, state.step);
  Manifest manifest{state.step, {}};
  const std::map<std::string, std::string> step{
      {"step", std::to_string(state.step)}};
  enter("model");
  const std::string model_file = part_name("model", part);
  manifest.files.push_back(
      {model_file,
       write_safetensors(folder.path / model_file, model.arrays(), step)});
  Index index;
  index.add(model_file, names_of(model), model.bytes());
  enter("optimizer");
  const std::string optimizer_file = part_name("optimizer", part);
  manifest.files.push_back(
      {optimizer_file, write_safetensors(folder.path / optimizer_file,
                                         optimizer.arrays(), step)});
  index.add_names(names_of(optimizer));
  enter("notes");
  for (int other = 1; other < part.count; ++other) {
    take_note(folder.path,
              {.number = other, .count = part.count, .give_up = part.give_up},
              manifest, index);
  }
  if (part.names != nullptr) index.check(*part.names);
  enter("index");
  manifest.files.push_back(
      {kIndexFile,
       write_file_atomically(folder.path / kIndexFile, index.text())});
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
    const bool replaced =
        name.ends_with(kReplaced) &&
        fs::exists(checkpoints / name.substr(0, name.size() - kReplaced.size()),
                   code);
    if (name.starts_with(kUnfinished) || name.starts_with(kRemoved) ||
        replaced) {
      std::error_code ignored;
      fs::remove_all(entry.path(), ignored);
    }
  }
}

}  // namespace catena
