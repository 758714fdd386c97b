#pragma once

#include <filesystem>
#include <string>

#include "training/config.h"

namespace catena {

/// The files of one run.
///   config.toml        resolved; `catena train config.toml` runs it again
///   tokenizer.json     the tokenizer it was trained with
///   log.txt            what was said
///   metrics.jsonl, routing.jsonl
///   model.safetensors  weights after the last step
///   result.json        how it ended
struct RunFolder {
  std::filesystem::path path;

  /// Makes the folder that config.run.folder names; {name} becomes `name`,
  /// and "-2", "-3", ... is added where one exists already.
  static RunFolder create(const Config& config, const std::string& name);
  /// Throws: Error(kData) if there is no run at `path`.
  static RunFolder open(const std::filesystem::path& path);

  [[nodiscard]] std::filesystem::path config() const {
    return path / "config.toml";
  }
  [[nodiscard]] std::filesystem::path tokenizer() const {
    return path / "tokenizer.json";
  }
  [[nodiscard]] std::filesystem::path weights() const {
    return path / "model.safetensors";
  }
  [[nodiscard]] std::filesystem::path result() const {
    return path / "result.json";
  }
};

}  // namespace catena
