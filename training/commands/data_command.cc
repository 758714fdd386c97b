#include "training/commands/data_command.h"

#include <fmt/format.h>

#include <cstdio>
#include <filesystem>
#include <iostream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "runtime/base/error.h"
#include "runtime/base/files.h"
#include "runtime/base/log.h"
#include "training/commands/inspect_data.h"
#include "training/data/prepare.h"
#include "training/data/tokenizer.h"
#include "training/data/tokenizer_trainer.h"

namespace catena {
namespace {

std::function<void(std::int64_t, std::int64_t)> show_progress(
    const char* what) {
  return [what, shown = std::int64_t{-1}](std::int64_t done,
                                          std::int64_t total) mutable {
    const std::int64_t percent = total > 0 ? 100 * done / total : 100;
    if (percent == shown) return;
    shown = percent;
    // A file, unlike a terminal, keeps every line: a few are enough there.
    if (!log::terminal() && percent % 25 != 0) return;
    log::progress(fmt::format("{}: {:3} % of {:.1f} MB", what, percent,
                              static_cast<double>(total) / 1e6));
  };
}

void report_bad_rows(const data::BadRows& bad) {
  for (const std::string& message : bad.messages) {
    log::warning("skipped: {}", message);
  }
  if (bad.count > 0) log::warning("skipped {} bad rows", bad.count);
}

void add_prepare(CLI::App& data) {
  auto options = std::make_shared<data::PrepareOptions>();
  auto no_eos = std::make_shared<bool>(false);
  CLI::App* command = data.add_subcommand(
      "prepare", "Turns text into token shards that training maps into memory");
  command
      ->add_option("--input,-i", options->inputs,
                   "files: .jsonl ({\"query\", \"response\"} or {\"text\"} a "
                   "line) or .txt, either may be .zst")
      ->required();
  command
      ->add_option("--tokenizer,-t", options->tokenizer,
                   "tokenizer.json, its folder, or GPT-2's vocab.json")
      ->required();
  command->add_option("--output,-o", options->output, "new folder")->required();
  command->add_flag("--skip-bad-rows", options->skip_bad_rows,
                    "count rows that cannot be used instead of stopping");
  command->add_flag("--no-eos", *no_eos, "no end-of-text token behind a row");
  command
      ->add_option("--template", options->row_template,
                   "how query and response become one text")
      ->capture_default_str();
  command->add_option("--threads", options->threads, "0: one per core")
      ->check(CLI::Range(0, 1024));
  command->footer(
      "Example:\n  catena data prepare --input data/quickstart/train.jsonl \\\n"
      "    --tokenizer data/quickstart/tokenizer.json --output prepared/train");
  command->callback([options, no_eos] {
    options->append_end_of_text = !*no_eos;
    options->progress = show_progress("prepare");
    const data::PrepareSummary summary = data::prepare(*options);
    log::progress("");
    report_bad_rows(summary.bad_rows);
    fmt::print(
        "{}: {} documents, {} tokens ({} of responses), {} shards, {} bad "
        "rows\n",
        options->output.string(), summary.documents, summary.tokens,
        summary.response_tokens, summary.shards, summary.bad_rows.count);
  });
}

void add_tokenizer(CLI::App& data) {
  auto options = std::make_shared<data::TrainTokenizerOptions>();
  auto output = std::make_shared<std::filesystem::path>();
  CLI::App* command = data.add_subcommand(
      "tokenizer", "Trains a byte-level BPE and writes a tokenizer.json");
  command->add_option("--input,-i", options->inputs, "as for prepare")
      ->required();
  command
      ->add_option("--vocabulary", options->vocabulary,
                   "tokens, 256 bytes and the end of text included")
      ->required();
  command->add_option("--output,-o", *output, "the tokenizer.json to write")
      ->required();
  command
      ->add_option("--template", options->row_template,
                   "how query and response become one text")
      ->capture_default_str();
  command->add_flag("--skip-bad-rows", options->skip_bad_rows,
                    "count rows that cannot be used instead of stopping");
  command->add_option("--threads", options->threads, "0: one per core")
      ->check(CLI::Range(0, 1024));
  command->footer(
      "Example:\n  catena data tokenizer --input data/quickstart/train.jsonl "
      "\\\n    --vocabulary 2048 --output tokenizer.json");
  command->callback([options, output] {
    options->progress = show_progress("tokenizer");
    const data::TrainedTokenizer trained = data::train_tokenizer(*options);
    log::progress("");
    report_bad_rows(trained.bad_rows);
    if (trained.vocabulary < options->vocabulary) {
      log::warning("the text has pairs for {} tokens only, {} were asked for",
                   trained.vocabulary, options->vocabulary);
    }
    write_file_atomically(*output, trained.json);
    fmt::print("{}: {} tokens from {} documents\n", output->string(),
               trained.vocabulary, trained.documents);
  });
}

void add_encode(CLI::App& data) {
  auto path = std::make_shared<std::filesystem::path>();
  auto offsets = std::make_shared<bool>(false);
  CLI::App* command = data.add_subcommand(
      "encode", "Prints the token ids of standard input, taken as one text");
  command->add_option("--tokenizer,-t", *path, "as for prepare")->required();
  command->add_flag("--offsets", *offsets,
                    "one token a line: id, first byte, byte behind the last");
  command->footer(
      "Example:\n  printf 'query : 1 + 1' | catena data encode \\\n"
      "    --tokenizer data/quickstart/tokenizer.json");
  command->callback([path, offsets] {
    const auto tokenizer = data::Tokenizer::load(*path);
    const std::string text{std::istreambuf_iterator<char>(std::cin), {}};
    if (*offsets) {
      for (const auto& token : tokenizer.encode_with_offsets(text)) {
        fmt::print("{} {} {}\n", token.id, token.begin, token.end);
      }
    } else {
      fmt::print("{}\n", fmt::join(tokenizer.encode(text), " "));
    }
  });
}

void add_inspect(CLI::App& data) {
  auto options = std::make_shared<InspectOptions>();
  CLI::App* command = data.add_subcommand(
      "inspect", "Shows what a prepared data set holds, and samples of it");
  command->add_option("folder", options->folder, "a prepared data set")
      ->required();
  command->add_option("--rows", options->rows, "samples to show")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  command->add_flag("--json", options->json, "one JSON object");
  command->footer("Example:\n  catena data inspect prepared/train --rows 2");
  command->callback([options] { fmt::print("{}", inspect_data(*options)); });
}

}  // namespace

void add_data_commands(CLI::App& app) {
  CLI::App* data = app.add_subcommand(
      "data", "Text to token shards, tokenizers, and a look at either");
  data->require_subcommand(1);
  add_prepare(*data);
  add_tokenizer(*data);
  add_encode(*data);
  add_inspect(*data);
}

}  // namespace catena
