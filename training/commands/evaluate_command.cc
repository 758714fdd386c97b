#include <chrono>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "launcher/contract.h"
#include "runtime/base/log.h"
#include "training/commands/commands.h"
#include "training/evaluate.h"
#include "training/generate.h"
#include "training/question_set.h"
#include "training/sources.h"

namespace catena {
namespace {

struct Options {
  std::string run, questions;
  std::vector<std::string> data, assignments;
  std::int64_t rows = 0, limit = 0, max_tokens = 256;
  bool json = false;
};

Validation::Estimate measure_loss(LoadedRun& loaded, Model& model,
                                  const Options& options) {
  Config& config = loaded.config;
  if (!options.data.empty()) config.data.validation = options.data;
  if (options.rows > 0) config.validation.rows = options.rows;
  const data::Dataset dataset =
      open_data(config, config.data.validation, "data.validation");
  Validation validation(dataset, sampler_options(config, loaded.tokenizer),
                        config);
  const auto chunk = model.make_chunk();
  return validation.run_by_rows(model, *chunk);
}

struct Answers {
  std::int64_t right = 0, asked = 0;
};

Answers ask(LoadedRun& loaded, Model& model, const Options& options) {
  std::vector<Question> questions = read_questions(options.questions);
  if (options.limit > 0 &&
      options.limit < static_cast<std::int64_t>(questions.size())) {
    questions.resize(static_cast<std::size_t>(options.limit));
  }
  Answers answers;
  GenerateOptions generate_options;
  generate_options.max_tokens = options.max_tokens;
  using Clock = std::chrono::steady_clock;
  auto shown = Clock::now();
  for (const Question& q : questions) {
    ++answers.asked;
    std::string said;
    try {
      generate(model, loaded.tokenizer,
               question(loaded.config.data.row_template, q.text),
               generate_options, [&](std::string_view text) { said += text; });
      answers.right += last_number(said) == q.answer;
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::kUsage) throw;
      log::warning("{}: question {} counts as not right: {}", options.questions,
                   answers.asked, error.what());
    }
    if (!log::terminal() && Clock::now() - shown < std::chrono::seconds(1)) {
      continue;
    }
    shown = Clock::now();
    log::progress(fmt::format("question {}/{}: {} right", answers.asked,
                              questions.size(), answers.right));
  }
  log::progress("");
  return answers;
}

int evaluate(const Options& options) {
  LoadedRun loaded(options.run, options.assignments);
  Model& model = loaded.load_model(
      resolve_precision(loaded.config.train.precision, *loaded.backend));
  const Validation::Estimate loss = measure_loss(loaded, model, options);
  nlohmann::ordered_json json{{"loss", loss.loss},
                              {"standard_error", nullptr},
                              {"rows", loss.rows},
                              {"trained_tokens", loss.trained_tokens}};
  std::string error = "unknown (one row)";
  if (loss.standard_error) {
    json["standard_error"] = *loss.standard_error;
    error = fmt::format("{:.4f}", *loss.standard_error);
  }
  std::string text =
      fmt::format("validation loss {:.4f} +- {} over {} tokens in {} rows\n",
                  loss.loss, error, loss.trained_tokens, loss.rows);
  if (!options.questions.empty()) {
    const Answers answers = ask(loaded, model, options);
    json["questions"] = answers.asked;
    json["exact_match"] = answers.right;
    text += fmt::format("exact match {} of {} questions ({:.1f}%)\n",
                        answers.right, answers.asked,
                        100.0 * static_cast<double>(answers.right) /
                            static_cast<double>(answers.asked));
  }
  std::fputs(options.json ? (json.dump() + "\n").c_str() : text.c_str(),
             stdout);
  return kExitSuccess;
}

}  // namespace

void add_evaluate_command(CLI::App& app, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "evaluate", "Validation loss and answers of a trained model");
  command
      ->add_option("run", options->run,
                   "Folder of a run, whose newest checkpoint is taken, or of a "
                   "checkpoint, RUN/checkpoints/step-N")
      ->required();
  command->add_option("--data", options->data,
                      "Text instead of the run's data.validation; repeatable");
  command
      ->add_option("--rows", options->rows,
                   "Rows instead of the run's validation.rows")
      ->check(CLI::PositiveNumber);
  command->add_option("--questions", options->questions,
                      "JSON Lines of {\"question\", \"answer\"} as GSM8K has "
                      "them: counts answers whose last number is right");
  command->add_option("--limit", options->limit, "Ask only the first so many")
      ->check(CLI::PositiveNumber);
  command->add_option("--max-tokens", options->max_tokens, "Longest answer")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 40))
      ->capture_default_str();
  command->add_option("--set", options->assignments,
                      "KEY=VALUE, over the run's configuration; repeatable");
  command->add_flag("--json", options->json, "One JSON object");
  command->footer(
      "The standard error takes rows as drawn independently; of one row it is "
      "unknown.\n"
      "Examples:\n"
      "  catena evaluate runs/quickstart\n"
      "  catena evaluate runs/quickstart --questions gsm8k_test.jsonl "
      "--limit 100");
  command->callback([options, &action] {
    action = [options] { return evaluate(*options); };
  });
}

}  // namespace catena
