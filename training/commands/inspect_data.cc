#include "training/commands/inspect_data.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <span>
#include <vector>

#include "training/data/dataset.h"
#include "training/data/tokenizer.h"

namespace catena {
namespace {

using OrderedJson = nlohmann::ordered_json;

constexpr std::array<std::size_t, 6> kPercentiles{0, 10, 50, 90, 99, 100};

struct Sample {
  std::int64_t document, tokens;
  std::string query, response;
};

/// By nearest rank; at 0 the shortest.
std::vector<std::int64_t> percentiles(const data::Dataset& dataset) {
  std::vector<std::int64_t> lengths;
  for (std::int64_t i = 0; i < dataset.documents(); ++i) {
    lengths.push_back(dataset.length(i));
  }
  std::sort(lengths.begin(), lengths.end());
  std::vector<std::int64_t> found;
  for (const std::size_t percent : kPercentiles) {
    const std::size_t rank = (lengths.size() * percent + 99) / 100;
    found.push_back(lengths[std::max<std::size_t>(rank, 1) - 1]);
  }
  return found;
}

std::vector<Sample> samples(const data::Dataset& dataset, std::int64_t rows) {
  std::vector<Sample> found;
  if (rows == 0) return found;
  const auto tokenizer = data::Tokenizer::load(dataset.tokenizer_path());
  for (std::int64_t i = 0; i < std::min(rows, dataset.documents()); ++i) {
    const auto tokens = dataset.tokens(i);
    const std::span all(tokens);
    const auto start = static_cast<std::size_t>(dataset.response_start(i));
    found.push_back({i, dataset.length(i), tokenizer.decode(all.first(start)),
                     tokenizer.decode(all.subspan(start))});
  }
  return found;
}

std::string as_json(const data::Dataset& dataset,
                    const std::vector<Sample>& rows) {
  const data::DatasetManifest& m = dataset.manifest();
  OrderedJson root = {{"folder", dataset.folder().string()},
                      {"documents", m.documents},
                      {"tokens", m.tokens},
                      {"response_tokens", m.response_tokens},
                      {"bad_rows", m.bad_rows},
                      {"vocabulary", m.vocabulary},
                      {"end_of_text", nullptr},
                      {"append_end_of_text", m.append_end_of_text},
                      {"shards", m.shards.size()}};
  if (m.end_of_text) root["end_of_text"] = *m.end_of_text;
  const auto lengths = percentiles(dataset);
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    root["length_percentiles"][fmt::format("{}", kPercentiles[i])] = lengths[i];
  }
  root["samples"] = OrderedJson::array();
  for (const Sample& row : rows) {
    root["samples"].push_back({{"document", row.document},
                               {"tokens", row.tokens},
                               {"query", row.query},
                               {"response", row.response}});
  }
  return root.dump(1, ' ', false, OrderedJson::error_handler_t::replace) + "\n";
}

std::string as_text(const data::Dataset& dataset,
                    const std::vector<Sample>& rows) {
  const data::DatasetManifest& m = dataset.manifest();
  std::string out =
      fmt::format("{}: {} documents, {} tokens ({} of responses), {} shards\n",
                  dataset.folder().string(), m.documents, m.tokens,
                  m.response_tokens, m.shards.size());
  out += fmt::format(
      "vocabulary {}, end of text {}{}, {} bad rows skipped\n", m.vocabulary,
      m.end_of_text ? fmt::format("{}", *m.end_of_text) : "none",
      m.append_end_of_text ? " behind each document" : "", m.bad_rows);
  out += "tokens a document:";
  const auto lengths = percentiles(dataset);
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    const std::size_t percent = kPercentiles[i];
    const std::string name = percent == 0     ? "min"
                             : percent == 100 ? "max"
                                              : fmt::format("p{}", percent);
    out += fmt::format(" {} {}", name, lengths[i]);
  }
  out += "\n";
  for (const Sample& row : rows) {
    out += fmt::format("\n[{}] {} tokens\n", row.document, row.tokens);
    if (!row.query.empty()) out += row.query + "\n--- response ---\n";
    out += row.response + "\n";
  }
  return out;
}

}  // namespace

std::string inspect_data(const InspectOptions& options) {
  const data::Dataset dataset(options.folder);
  const auto rows = samples(dataset, options.rows);
  return options.json ? as_json(dataset, rows) : as_text(dataset, rows);
}

}  // namespace catena
