#include <nlohmann/json.hpp>

#include "runtime/base/error.h"
#include "training/data/dataset_format.h"
#include "training/data/json_node.h"

namespace catena::data {
namespace {

using OrderedJson = nlohmann::ordered_json;

constexpr const char* kFormat = "catena-dataset";

OrderedJson file_json(const DatasetFileInfo& file) {
  return {{"name", file.name}, {"bytes", file.bytes}, {"xxh3", file.hash}};
}

DatasetFileInfo parse_file(const JsonNode& node) {
  DatasetFileInfo file{node.member("name").text(), node.member("bytes").count(),
                       node.member("xxh3").text()};
  if (file.name.empty() || file.name.front() == '.' ||
      file.name.find('/') != std::string::npos) {
    node.member("name").refuse(
        fmt::format("is {:?}, expected a file of the folder", file.name));
  }
  return file;
}

void check_format(const JsonNode& root) {
  const JsonNode format = root.member("format");
  if (format.text() != kFormat) {
    format.refuse(fmt::format("is {:?}, expected {:?}", format.text(),
                              std::string(kFormat)));
  }
  const JsonNode version = root.member("version");
  if (version.integer() != kDatasetVersion) {
    version.refuse(fmt::format(
        "is {}, this program reads version {}; prepare the data set again "
        "with this program",
        version.integer(), kDatasetVersion));
  }
}

}  // namespace

std::string write_manifest(const DatasetManifest& m) {
  OrderedJson root = {{"format", kFormat},
                      {"version", kDatasetVersion},
                      {"documents", m.documents},
                      {"tokens", m.tokens},
                      {"response_tokens", m.response_tokens},
                      {"bad_rows", m.bad_rows},
                      {"vocabulary", m.vocabulary},
                      {"end_of_text", nullptr},
                      {"append_end_of_text", m.append_end_of_text},
                      {"skip_bad_rows", m.skip_bad_rows},
                      {"template", m.row_template},
                      {"tokenizer_hash", m.tokenizer_hash},
                      {"source_hash", m.source_hash},
                      {"sources", m.sources}};
  if (m.end_of_text) root["end_of_text"] = *m.end_of_text;
  root["index"] = file_json(m.index);
  root["tokenizer"] = file_json(m.tokenizer);
  root["shards"] = OrderedJson::array();
  for (const auto& shard : m.shards) root["shards"].push_back(file_json(shard));
  return root.dump(1, ' ', false, OrderedJson::error_handler_t::replace) + "\n";
}

DatasetManifest parse_manifest(std::string_view json, const std::string& name) {
  const nlohmann::json document = parse_json(json, name);
  const JsonNode root(document, name, "");
  check_format(root);
  DatasetManifest m;
  m.documents = root.member("documents").count();
  m.tokens = root.member("tokens").count();
  m.response_tokens = root.member("response_tokens").count();
  m.bad_rows = root.member("bad_rows").count();
  m.vocabulary = root.member("vocabulary").count();
  m.append_end_of_text = root.member("append_end_of_text").flag();
  m.skip_bad_rows = root.member("skip_bad_rows").flag();
  m.row_template = root.member("template").text();
  m.tokenizer_hash = root.member("tokenizer_hash").text();
  m.source_hash = root.member("source_hash").text();
  const JsonNode end_of_text = root.member("end_of_text");
  if (!end_of_text.is_null()) {
    const std::int64_t id = end_of_text.count();
    if (id >= m.vocabulary) end_of_text.refuse("is outside the vocabulary");
    m.end_of_text = static_cast<std::int32_t>(id);
  }
  const JsonNode sources = root.member("sources");
  for (std::size_t i = 0; i < sources.size(); ++i) {
    m.sources.push_back(sources.element(i).text());
  }
  m.index = parse_file(root.member("index"));
  m.tokenizer = parse_file(root.member("tokenizer"));
  const JsonNode shards = root.member("shards");
  for (std::size_t i = 0; i < shards.size(); ++i) {
    m.shards.push_back(parse_file(shards.element(i)));
  }
  return m;
}

}  // namespace catena::data
