#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "layers/model.h"
#include "training/config.h"
#include "training/data/dataset.h"
#include "training/data/sampler.h"
#include "training/data/tokenizer.h"
#include "training/run_folder.h"

namespace catena {

/// What train.precision stands for on this backend.
[[nodiscard]] Precision resolve_precision(const std::string& precision,
                                          const Backend& backend);

/// Throws: Error(kConfig) if data.tokenizer names none, Error(kData).
[[nodiscard]] data::Tokenizer load_tokenizer(const Config& config);

[[nodiscard]] data::SamplerOptions sampler_options(
    const Config& config, const data::Tokenizer& tokenizer);

/// Opens a prepared data set, or prepares one of text in data.cache, with
/// progress. `key` is named where there is no input.
[[nodiscard]] data::Dataset open_data(const Config& config,
                                      const std::vector<std::string>& inputs,
                                      const char* key);

/// Writes the tokenizer of data.tokenizer to the run, with the
/// tokenizer_config.json beside it, which may name the end-of-text token.
/// Throws: Error(kIo).
void save_tokenizer(const data::Tokenizer& tokenizer, const Config& config,
                    const RunFolder& run);

/// A run that was trained: its configuration, tokenizer and weights.
struct LoadedRun {
  /// `path`: a run, or a checkpoint in its folder.
  /// Throws: Error(kData) if there is none at `path`.
  LoadedRun(const std::filesystem::path& path,
            const std::vector<std::string>& assignments);
  /// The model with the weights of the checkpoint, or of the run's newest.
  /// Throws: Error(kData).
  Model& load_model(Precision precision);

  std::filesystem::path source;  ///< the run or the checkpoint
  RunFolder run;
  data::Tokenizer tokenizer;
  Config config;
  std::unique_ptr<Backend> backend;
  std::unique_ptr<Model> model;
};

}  // namespace catena
