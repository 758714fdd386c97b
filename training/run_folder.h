#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "training/config.h"

namespace catena {

/// The files of one run.
///   config.toml        resolved; `catena train config.toml` runs it again
///   tokenizer.json     the tokenizer it was trained with
///   tokenizer_config.json  if the tokenizer came with one
///   log.txt            what was said
///   metrics.jsonl, routing.jsonl
///   checkpoints/       step-000100/, ...
///   result.json        how it ended
///   lock               held by the process that trains
///   ranks/1/, ...      log, metrics and result of other ranks
struct RunFolder {
  std::filesystem::path path;
  /// With several ranks, rank 0's: `path` is that of this one, RUN/ranks/R.
  std::filesystem::path shared = {};

  /// config.run.folder with {name} filled in.
  static std::filesystem::path resolve(const Config& config,
                                       const std::string& name);
  /// Makes `wanted`, or `wanted`-N, N one above the highest there is (that of
  /// `wanted` is 1). Folders whose config.toml has another run.folder, as
  /// "coe-64" has beside "coe", do not count. Throws: Error(kIo).
  static RunFolder create(const std::filesystem::path& wanted);
  /// `path`, which is made if it is not there. Throws: Error(kIo).
  static RunFolder at(const std::filesystem::path& path);
  /// The one with the highest number; nothing if there is none.
  /// Throws: Error(kIo) if the folder around it cannot be listed.
  static std::optional<RunFolder> latest(const std::filesystem::path& wanted);
  /// Throws: Error(kData) if there is no run at `path`.
  static RunFolder open(const std::filesystem::path& path);

  [[nodiscard]] std::filesystem::path config() const {
    return path / "config.toml";
  }
  [[nodiscard]] std::filesystem::path tokenizer() const {
    return path / "tokenizer.json";
  }
  [[nodiscard]] std::filesystem::path checkpoints() const {
    return (shared.empty() ? path : shared) / "checkpoints";
  }
  [[nodiscard]] std::filesystem::path result() const {
    return path / "result.json";
  }
  /// Removes what `catena launch` wrote of how its job stands, if it did.
  void forget_job() const { std::filesystem::remove(path / "job.json"); }
  [[nodiscard]] std::filesystem::path lock() const { return path / "lock"; }
  /// What rank `rank` of this run writes to; its folder is made.
  /// Throws: Error(kIo).
  [[nodiscard]] RunFolder of_rank(int rank) const;
};

}  // namespace catena
