#include "training/checkpoint/state.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "runtime/base/error.h"
#include "training/data/json_node.h"

namespace catena {
namespace {

using OrderedJson = nlohmann::ordered_json;
using data::JsonNode;

constexpr std::int64_t kVersion = 1;

std::vector<double> numbers(const JsonNode& node) {
  std::vector<double> values;
  for (std::size_t i = 0; i < node.size(); ++i) {
    values.push_back(node.element(i).number());
  }
  return values;
}

// A key that is not a number in JSON: nothing else stands for NaN.
OrderedJson number_json(double value) {
  return std::isfinite(value) ? OrderedJson(value) : OrderedJson(nullptr);
}

double number_or_nan(const JsonNode& node) {
  return node.is_null() ? std::nan("") : node.number();
}

}  // namespace

std::string state_text(const TrainingState& s) {
  OrderedJson config = OrderedJson::object();
  for (const auto& [key, value] : s.config) config[key] = value;
  const OrderedJson json{
      {"version", kVersion},
      {"step", s.step},
      {"tokens", s.tokens},
      {"seconds", s.seconds},
      {"validation_before", number_json(s.validation_before)},
      {"sampler",
       {{"epoch", s.sampler.epoch},
        {"index", s.sampler.index},
        {"token", s.sampler.token}}},
      {"spikes",
       {{"losses", s.spikes.losses},
        {"norms", s.spikes.norms},
        {"skipped", s.spikes.skipped},
        {"rewound", s.spikes.rewound},
        {"in_a_row", s.spikes.in_a_row}}},
      {"probe_loss", number_json(s.probe_loss)},
      {"layout", s.layout},
      {"data_hash", s.data_hash},
      {"validation_hash", s.validation_hash},
      {"tokenizer_hash", s.tokenizer_hash},
      {"config", config}};
  return json.dump(1, ' ', false, OrderedJson::error_handler_t::replace) + "\n";
}

TrainingState parse_state(std::string_view text, const std::string& name) {
  const nlohmann::json json = data::parse_json(text, name);
  const JsonNode root(json, name, "");
  root.require_object();
  if (root.member("version").integer() != kVersion) {
    root.member("version").refuse(
        fmt::format("is not {}: use the program that wrote it", kVersion));
  }
  TrainingState s;
  s.step = root.member("step").count();
  s.tokens = root.member("tokens").count();
  s.seconds = root.member("seconds").number();
  s.validation_before = number_or_nan(root.member("validation_before"));
  const JsonNode sampler = root.member("sampler");
  sampler.require_object();
  s.sampler = {sampler.member("epoch").count(), sampler.member("index").count(),
               sampler.member("token").count()};
  const JsonNode spikes = root.member("spikes");
  spikes.require_object();
  s.spikes = {numbers(spikes.member("losses")), numbers(spikes.member("norms")),
              spikes.member("skipped").count(),
              spikes.member("rewound").count(),
              spikes.member("in_a_row").count()};
  s.probe_loss = number_or_nan(root.member("probe_loss"));
  s.layout = root.member("layout").text();
  s.data_hash = root.member("data_hash").text();
  s.validation_hash = root.member("validation_hash").text();
  s.tokenizer_hash = root.member("tokenizer_hash").text();
  const JsonNode config = root.member("config");
  config.require_object();
  for (const auto& entry : config.value().items()) {
    s.config.push_back({entry.key(), config.member(entry.key()).text()});
  }
  return s;
}

std::vector<ConfigDifference> differences(const TrainingState& before,
                                          const TrainingState& now) {
  std::map<std::string, std::string> old;
  for (const auto& [key, value] : before.config) old[key] = value;
  std::vector<ConfigDifference> result;
  for (const auto& [key, value] : now.config) {
    const auto found = old.find(key);
    if (found != old.end() && found->second != value) {
      result.push_back({key, found->second, value});
    }
  }
  return result;
}

bool fixes_the_run(std::string_view key) {
  static constexpr std::string_view kFixed[] = {
      "data.sequence",     "data.packing",      "data.loss",
      "data.keep_padding", "train.seed",        "data.end_of_text",
      "data.template",     "data.skip_bad_rows"};
  if (key == "model.config") return false;
  return key.starts_with("model.") ||
         std::find(std::begin(kFixed), std::end(kFixed), key) !=
             std::end(kFixed);
}

std::vector<ConfigDifference> check_resumable(
    const TrainingState& before, const TrainingState& now,
    const std::filesystem::path& checkpoint) {
  std::vector<ConfigDifference> free;
  std::string refused;
  const auto refuse = [&](const std::string& what, const std::string& then,
                          const std::string& is) {
    refused += fmt::format("{}{} was {}, is {}", refused.empty() ? "" : "; ",
                           what, then, is);
  };
  for (ConfigDifference& d : differences(before, now)) {
    if (fixes_the_run(d.key)) {
      refuse(d.key, d.before, d.now);
    } else {
      free.push_back(std::move(d));
    }
  }
  if (before.tokenizer_hash != now.tokenizer_hash) {
    refuse("the tokenizer (data.tokenizer)", before.tokenizer_hash,
           now.tokenizer_hash);
  }
  if (before.data_hash != now.data_hash) {
    refuse("the training data (data.train)", before.data_hash, now.data_hash);
  }
  if (!refused.empty()) {
    fail(ErrorKind::kData,
         "{}: cannot resume, this is another run: {}. Set them back, or take "
         "the weights alone with --init-from",
         checkpoint.string(), refused);
  }
  return free;
}

}  // namespace catena
