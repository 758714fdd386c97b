#pragma once

#include <memory>

#include "training/data/prepare.h"
#include "training/data/tokenizer.h"
#include "training/estimate.h"
#include "training/evaluate.h"
#include "training/run_folder.h"
#include "training/step.h"

namespace catena {

/// A training run on this machine, from configuration to saved weights.
///   Trainer trainer(config, run);
///   TrainResult result = trainer.run();
class Trainer {
 public:
  /// Opens (or prepares) the data, builds the model, prints the start table.
  /// Throws: what is wrong with data, sizes or memory, before anything ran.
  Trainer(const Config& config, const RunFolder& run);
  ~Trainer();

  struct Result {
    std::int64_t steps = 0, tokens = 0;
    double seconds = 0;
    double validation_before = 0, validation_after = 0;
    bool stopped = false;  ///< by a signal
  };
  Result run();

  /// Greedy answers to config.run.prompts, on standard output.
  void answer_prompts();

 private:
  [[nodiscard]] data::SamplerOptions sampler_options() const;
  [[nodiscard]] data::Dataset open(const std::vector<std::string>& inputs,
                                   const char* key) const;
  void print_start(const Estimate& estimate) const;
  double validate(std::int64_t step);
  void report(StepReport& step, double seconds_so_far);
  void finish(const Result& result);

  const Config& config_;
  RunFolder run_;
  data::Tokenizer tokenizer_;
  std::unique_ptr<Backend> backend_;
  Precision precision_;
  data::Dataset train_data_, validation_data_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<Optimizer> optimizer_;
  std::unique_ptr<MetricsWriter> metrics_;
  Validation validation_;
  double peak_flops_ = 0;
};

}  // namespace catena
