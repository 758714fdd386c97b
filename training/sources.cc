#include "training/sources.h"

#include <algorithm>
#include <chrono>

#include "runtime/base/error.h"
#include "runtime/base/files.h"
#include "runtime/base/log.h"
#include "training/checkpoint/manifest.h"
#include "training/checkpoint/reader.h"
#include "training/data/prepare.h"

namespace catena {

Precision resolve_precision(const std::string& precision,
                            const Backend& backend) {
  if (precision == "float32") return {DType::kFloat32};
  if (precision == "bfloat16") return {DType::kBFloat16};
  if (precision == "float64") return {DType::kFloat64};
  return {backend.fast_type()};
}

data::Tokenizer load_tokenizer(const Config& config) {
  if (config.data.tokenizer.empty()) {
    fail(ErrorKind::kConfig,
         "data.tokenizer names no file; set it to a tokenizer.json, or make "
         "one with `catena data tokenizer`");
  }
  return data::Tokenizer::load(config.data.tokenizer);
}

data::SamplerOptions sampler_options(const Config& config,
                                     const data::Tokenizer& tokenizer) {
  const DataConfig& d = config.data;
  return {.sequence = d.sequence,
          .packing = d.packing == "packed" ? data::Packing::kPacked
                                           : data::Packing::kPadded,
          .seed = static_cast<std::uint64_t>(config.train.seed),
          .shuffle = true,
          .response_only = d.loss == "response",
          .keep_padding = d.keep_padding,
          .padding_token = tokenizer.end_of_text().value_or(0)};
}

data::Dataset open_data(const Config& config,
                        const std::vector<std::string>& inputs,
                        const char* key) {
  if (inputs.empty()) {
    fail(ErrorKind::kConfig, "{} names no file; set it to a .jsonl or .txt",
         key);
  }
  data::PrepareOptions options;
  options.inputs.assign(inputs.begin(), inputs.end());
  options.tokenizer = config.data.tokenizer;
  options.append_end_of_text = config.data.end_of_text;
  options.skip_bad_rows = config.data.skip_bad_rows;
  options.row_template = config.data.row_template;
  options.threads = static_cast<int>(config.train.threads);
  using Clock = std::chrono::steady_clock;
  auto shown = Clock::now();
  options.progress = [&](std::int64_t done, std::int64_t all) {
    if (Clock::now() - shown < std::chrono::milliseconds(500)) return;
    shown = Clock::now();
    log::progress(
        fmt::format("tokenizing {}: {:.0f}%", inputs[0],
                    100.0 * static_cast<double>(done) /
                        static_cast<double>(std::max<std::int64_t>(1, all))));
  };
  data::Dataset dataset = data::open_or_prepare(options, config.data.cache);
  log::progress("");
  return dataset;
}

void save_tokenizer(const data::Tokenizer& tokenizer, const Config& config,
                    const RunFolder& run) {
  write_file_atomically(run.tokenizer(), tokenizer.json());
  const std::filesystem::path given = config.data.tokenizer;
  const std::filesystem::path names =
      (std::filesystem::is_directory(given) ? given : given.parent_path()) /
      "tokenizer_config.json";
  if (std::filesystem::exists(names)) {
    write_file_atomically(run.path / "tokenizer_config.json", read_file(names));
  }
}

namespace {

std::filesystem::path run_of(const std::filesystem::path& path) {
  if (!std::filesystem::exists(path / kManifestFile)) return path;
  const auto checkpoint =
      std::filesystem::absolute(path / "").lexically_normal().parent_path();
  return checkpoint.parent_path().parent_path();
}

}  // namespace

LoadedRun::LoadedRun(const std::filesystem::path& path,
                     const std::vector<std::string>& assignments)
    : source(path),
      run(RunFolder::open(run_of(path))),
      tokenizer(data::Tokenizer::load(run.tokenizer())) {
  config::Schema schema;
  describe(schema, config);
  load(schema, config, run.config(), assignments);
  backend = make_cpu_backend(static_cast<int>(config.train.threads));
  config.data.tokenizer = run.tokenizer().string();
}

Model& LoadedRun::load_model(Precision precision) {
  model = std::make_unique<Model>(*backend, config.model, precision);
  load_weights(*model, find_weights(source));
  return *model;
}

}  // namespace catena
