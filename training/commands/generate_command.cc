#include <cstdio>
#include <memory>

#include "launcher/contract.h"
#include "training/commands/commands.h"
#include "training/generate.h"
#include "training/sources.h"

namespace catena {
namespace {

struct Options {
  std::string run, prompt;
  bool raw = false;
  GenerateOptions generate;
};

int generate_text(const Options& options) {
  LoadedRun loaded(options.run, {});
  Model& model = loaded.load_model({});
  const std::string prompt =
      options.raw ? options.prompt
                  : question(loaded.config.data.row_template, options.prompt);
  generate(model, loaded.tokenizer, prompt, options.generate,
           [](std::string_view text) {
             std::fwrite(text.data(), 1, text.size(), stdout);
             std::fflush(stdout);
           });
  std::printf("\n");
  return kExitSuccess;
}

}  // namespace

void add_generate_command(CLI::App& app, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("generate", "Continue a prompt with a trained model");
  command
      ->add_option("run", options->run,
                   "Folder of a run, whose newest checkpoint is taken, or of a "
                   "checkpoint, RUN/checkpoints/step-N")
      ->required();
  command->add_option("--prompt,-p", options->prompt, "A question, or text")
      ->required();
  command->add_flag("--raw", options->raw,
                    "Continue the prompt as it is, without data.template");
  command
      ->add_option("--max-tokens", options->generate.max_tokens,
                   "Longest answer")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 40))
      ->capture_default_str();
  command
      ->add_option("--temperature", options->generate.temperature,
                   "0: the most likely token each time")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command
      ->add_option("--top-p", options->generate.top_p,
                   "Draw from the most likely tokens that reach this "
                   "probability")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  command->add_option("--seed", options->generate.seed, "Of the draws")
      ->capture_default_str();
  command->footer(
      "Examples:\n"
      "  catena generate runs/quickstart --prompt \"What is 12 + 7?\"\n"
      "  catena generate runs/quickstart --raw -p \"query : \" "
      "--temperature 0.8 --top-p 0.9");
  command->callback([options, &action] {
    action = [options] { return generate_text(*options); };
  });
}

}  // namespace catena
