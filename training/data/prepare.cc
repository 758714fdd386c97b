#include "training/data/prepare.h"

#include <unistd.h>

#include <chrono>
#include <fstream>
#include <random>
#include <string>
#include <utility>

#include "runtime/base/error.h"
#include "runtime/base/files.h"
#include "runtime/base/hash.h"
#include "training/data/dataset_writer.h"
#include "training/data/ordered_pipeline.h"
#include "training/data/threads.h"
#include "training/data/tokenizer.h"

namespace catena::data {
namespace fs = std::filesystem;
namespace {

constexpr std::size_t kBlockBytes = std::size_t{1} << 18;

struct EncodedDocument {
  std::vector<std::int32_t> tokens;
  std::int64_t response_start = 0;
};

struct EncodedBlock {
  std::vector<EncodedDocument> documents;
  BadRows bad;
};

EncodedDocument encode(const Tokenizer& tokenizer, const Document& document) {
  EncodedDocument encoded;
  if (document.response_begin == 0) {
    encoded.tokens = tokenizer.encode(document.text);
    return encoded;
  }
  for (const TokenSpan& span : tokenizer.encode_with_offsets(document.text)) {
    encoded.tokens.push_back(span.id);
    if (span.end <= document.response_begin) ++encoded.response_start;
  }
  return encoded;
}

EncodedDocument encode_row(const Tokenizer& tokenizer, const RawRow& row,
                           const Document& document) {
  try {
    return encode(tokenizer, document);
  } catch (const Error& error) {
    fail(error.kind(), "{}:{}: {}", row.file, row.line, error.what());
  }
}

EncodedBlock encode_block(const std::vector<RawRow>& rows,
                          const RowTemplate& row_template,
                          const Tokenizer& tokenizer,
                          const PrepareOptions& options) {
  EncodedBlock block;
  const auto documents = parse_rows(
      rows, row_template, options.skip_bad_rows ? &block.bad : nullptr);
  for (const Document& document : documents) {
    block.documents.push_back(
        encode_row(tokenizer, rows[document.row], document));
    if (options.append_end_of_text) {
      block.documents.back().tokens.push_back(*tokenizer.end_of_text());
    }
  }
  return block;
}

// Of contents and how they are read, not of names or times: the same text has
// the same hash.
std::string hash_inputs(const std::vector<fs::path>& inputs) {
  std::string all;
  for (const fs::path& path : inputs) {
    const MappedFile file(path);
    all += fmt::format("{} {} {}\n", holds_json(path) ? "json" : "text",
                       file.bytes().size(), hexadecimal(hash64(file.bytes())));
  }
  return hexadecimal(hash64(all));
}

void check_options(const PrepareOptions& options, const Tokenizer& tokenizer) {
  if (options.append_end_of_text && !tokenizer.end_of_text()) {
    fail(ErrorKind::kUsage,
         "{}: names no end-of-text token to put behind each document; leave "
         "it out (data.end_of_text = false, or --no-eos of `catena data "
         "prepare`), or name it in tokenizer_config.json (eos_token)",
         options.tokenizer.string());
  }
  if (fs::exists(options.output / kDatasetFile)) {
    fail(ErrorKind::kUsage,
         "{}: already holds a data set; choose another folder or remove it",
         options.output.string());
  }
  std::error_code missing;
  if (fs::is_directory(options.output, missing) &&
      !fs::is_empty(options.output) &&
      !fs::exists(options.output / kUnfinishedFile)) {
    fail(ErrorKind::kUsage,
         "{}: is not empty, and no unfinished data set either (no {} there); "
         "choose another folder or empty it",
         options.output.string(), kUnfinishedFile);
  }
}

void mark_unfinished(const fs::path& folder) {
  const fs::path mark = folder / kUnfinishedFile;
  if (!std::ofstream(mark)) {
    fail(ErrorKind::kIo, "{}: cannot be written", mark.string());
  }
}

DatasetManifest describe(const PrepareOptions& options,
                         const Tokenizer& tokenizer) {
  DatasetManifest manifest;
  manifest.tokenizer_hash = hexadecimal(tokenizer.hash());
  manifest.source_hash = hash_inputs(options.inputs);
  manifest.vocabulary = tokenizer.vocabulary_size();
  manifest.end_of_text = tokenizer.end_of_text();
  manifest.append_end_of_text = options.append_end_of_text;
  manifest.skip_bad_rows = options.skip_bad_rows;
  manifest.row_template = options.row_template;
  for (const fs::path& path : options.inputs) {
    manifest.sources.push_back(path.filename().string());
  }
  return manifest;
}

BadRows write_documents(const PrepareOptions& options,
                        const Tokenizer& tokenizer, DatasetWriter& writer) {
  const RowTemplate row_template(options.row_template);
  CorpusReader reader(options.inputs);
  BadRows bad;
  ordered_pipeline(
      thread_count(options.threads),
      [&] { return reader.next_block(kBlockBytes); },
      [&](const std::vector<RawRow>& rows) {
        return encode_block(rows, row_template, tokenizer, options);
      },
      [&](const EncodedBlock& block) {
        for (const EncodedDocument& document : block.documents) {
          writer.add(document.tokens, document.response_start);
        }
        bad.add(block.bad);
        if (options.progress) {
          options.progress(reader.bytes_done(), reader.bytes_total());
        }
      });
  return bad;
}

// The tokenizer goes along, so that the data set explains itself.
void write_tokenizer(const PrepareOptions& options, const Tokenizer& tokenizer,
                     DatasetManifest& manifest) {
  manifest.tokenizer =
      write_dataset_file(options.output, "tokenizer.json", tokenizer.json());
  const fs::path folder = fs::is_directory(options.tokenizer)
                              ? options.tokenizer
                              : options.tokenizer.parent_path();
  const fs::path config = folder / "tokenizer_config.json";
  if (fs::exists(config)) {
    write_file_atomically(options.output / "tokenizer_config.json",
                          catena::read_file(config));
  }
}

std::string cache_key(const PrepareOptions& options) {
  const Tokenizer tokenizer = Tokenizer::load(options.tokenizer);
  // The manifest before anything is written: all that decides the tokens.
  DatasetManifest manifest = describe(options, tokenizer);
  manifest.sources.clear();
  return hexadecimal(hash64(write_manifest(manifest)));
}

Dataset open_given(const PrepareOptions& options, Verify verify) {
  Dataset dataset(options.inputs[0], verify);
  if (!options.tokenizer.empty()) {
    const auto hash = hexadecimal(Tokenizer::load(options.tokenizer).hash());
    if (hash != dataset.manifest().tokenizer_hash) {
      fail(ErrorKind::kData,
           "{}: was prepared with another tokenizer than {}; use {} or prepare "
           "the text again",
           options.inputs[0].string(), options.tokenizer.string(),
           dataset.tokenizer_path().string());
    }
  }
  const auto differs = [&](const char* key, const auto& there,
                           const auto& here) {
    if (there == here) return;
    fail(ErrorKind::kConfig,
         "{}: was prepared with {} = {:?}, this run says {:?}; set it to that, "
         "or prepare the text again",
         options.inputs[0].string(), key, fmt::format("{}", there),
         fmt::format("{}", here));
  };
  const DatasetManifest& manifest = dataset.manifest();
  differs("data.end_of_text", manifest.append_end_of_text,
          options.append_end_of_text);
  differs("data.template", manifest.row_template, options.row_template);
  return dataset;
}

bool abandoned(const fs::path& partial) {
  const auto yesterday =
      fs::file_time_type::clock::now() - std::chrono::hours(24);
  try {
    if (fs::last_write_time(partial) > yesterday) return false;
    for (const auto& entry : fs::directory_iterator(partial)) {
      if (entry.last_write_time() > yesterday) return false;
    }
    return true;
  } catch (const fs::filesystem_error&) {
    // Another process may be about to remove it, too.
    return false;
  }
}

void remove_abandoned(const fs::path& cache, const std::string& prefix) {
  std::error_code failed;
  for (fs::directory_iterator entry(cache, failed), end;
       !failed && entry != end; entry.increment(failed)) {
    const fs::path& path = entry->path();
    if (path.filename().string().starts_with(prefix) && abandoned(path)) {
      std::error_code ignored;
      fs::remove_all(path, ignored);
    }
  }
}

/// Removes a folder unless it was renamed away.
struct PartialFolder {
  fs::path path;
  ~PartialFolder() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
};

}  // namespace

PrepareSummary prepare(const PrepareOptions& options) {
  if (options.inputs.empty()) {
    fail(ErrorKind::kUsage, "no input to prepare a data set from");
  }
  const Tokenizer tokenizer = Tokenizer::load(options.tokenizer);
  check_options(options, tokenizer);
  DatasetManifest manifest = describe(options, tokenizer);
  DatasetWriter writer(options.output, options.shard_tokens,
                       manifest.vocabulary < 65536 ? 2 : 4);
  mark_unfinished(options.output);
  PrepareSummary summary;
  summary.bad_rows = write_documents(options, tokenizer, writer);
  writer.finish(manifest);
  if (manifest.documents == 0) {
    fail(ErrorKind::kData, "{}: the corpus is empty ({} bad rows)",
         options.inputs[0].string(), summary.bad_rows.count);
  }
  manifest.bad_rows = summary.bad_rows.count;
  write_tokenizer(options, tokenizer, manifest);
  write_dataset_file(options.output, kDatasetFile, write_manifest(manifest));
  std::error_code harmless;
  fs::remove(options.output / kUnfinishedFile, harmless);
  summary.documents = manifest.documents;
  summary.tokens = manifest.tokens;
  summary.response_tokens = manifest.response_tokens;
  summary.shards = static_cast<std::int64_t>(manifest.shards.size());
  return summary;
}

Dataset open_or_prepare(PrepareOptions options, const fs::path& cache,
                        Verify verify) {
  if (options.inputs.size() == 1 && fs::is_directory(options.inputs[0])) {
    return open_given(options, verify);
  }
  // Reports a missing file before its hash is taken.
  static_cast<void>(CorpusReader(options.inputs));
  const std::string key = cache_key(options);
  const fs::path folder = cache / key;
  if (!fs::exists(folder / kDatasetFile)) {
    const std::string prefix = key + ".partial-";
    remove_abandoned(cache, prefix);
    // Containers that share the folder may have processes of one number.
    options.output = cache / fmt::format("{}{}-{:08x}", prefix, ::getpid(),
                                         std::random_device()());
    const PartialFolder partial{options.output};
    prepare(options);
    std::error_code failed;
    fs::rename(options.output, folder, failed);
    // Another process may have put the same data set there first.
    if (failed && !fs::exists(folder / kDatasetFile)) {
      fail(ErrorKind::kIo, "{}: cannot be renamed to {}: {}",
           options.output.string(), folder.string(), failed.message());
    }
  }
  return Dataset(folder, verify);
}

}  // namespace catena::data
