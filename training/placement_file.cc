#include "training/placement_file.h"

#include <algorithm>
#include <optional>

#include "runtime/base/error.h"
#include "runtime/base/files.h"
#include "runtime/base/toml.h"

namespace catena {
namespace {

using Holders = std::vector<std::vector<int>>;

/// Refuses what stands at a place of the file.
class Reader {
 public:
  Reader(std::string name, const PlacementShape& shape)
      : name_(std::move(name)), shape_(shape) {}

  [[nodiscard]] Placements read(const toml::table& file) const {
    check_keys(file, {"ranks", "experts", "layer"});
    const std::int64_t ranks = integer(need(file, "ranks"), "ranks");
    if (ranks != shape_.ranks) {
      refuse(need(file, "ranks"),
             "this placement is for {} ranks that share experts, and here are "
             "{}; set parallel.expert = {}, or write another",
             ranks, shape_.ranks, ranks);
    }
    const Placement all = placement(need(file, "experts"));
    if (!file.contains("layer")) return all;
    std::vector<std::optional<Placement>> own(
        static_cast<std::size_t>(shape_.layers));
    for (const toml::node& layer : list(*file.get("layer"), "layer")) {
      read_layer(layer, own);
    }
    std::vector<Placement> of_layers;
    for (const auto& layer : own) of_layers.push_back(layer.value_or(all));
    return Placements(std::move(of_layers));
  }

 private:
  template <class... Args>
  [[noreturn]] void refuse(const toml::node& node,
                           fmt::format_string<Args...> format,
                           Args&&... args) const {
    const toml::source_position& at = node.source().begin;
    fail(ErrorKind::kConfig, "{}:{}:{}: {}", name_, at.line, at.column,
         fmt::format(format, std::forward<Args>(args)...));
  }

  void check_keys(const toml::table& table,
                  std::initializer_list<std::string_view> known) const {
    for (const auto& [key, node] : table) {
      if (std::find(known.begin(), known.end(), key.str()) != known.end()) {
        continue;
      }
      refuse(node, "unknown key {}; there are {}", key.str(),
             fmt::join(known, ", "));
    }
  }

  [[nodiscard]] const toml::node& need(const toml::table& table,
                                       std::string_view key) const {
    const toml::node* node = table.get(key);
    if (node == nullptr) refuse(table, "{} is missing", key);
    return *node;
  }

  [[nodiscard]] std::int64_t integer(const toml::node& node,
                                     std::string_view what) const {
    const auto* value = node.as_integer();
    if (value == nullptr) refuse(node, "{} must be a whole number", what);
    return value->get();
  }

  [[nodiscard]] const toml::array& list(const toml::node& node,
                                        std::string_view what) const {
    const toml::array* array = node.as_array();
    if (array == nullptr) refuse(node, "{} must be a list", what);
    return *array;
  }

  void read_layer(const toml::node& node,
                  std::vector<std::optional<Placement>>& own) const {
    const toml::table* table = node.as_table();
    if (table == nullptr) refuse(node, "layer must be a table: [[layer]]");
    check_keys(*table, {"number", "experts"});
    const toml::node& at = need(*table, "number");
    const std::int64_t number = integer(at, "number");
    if (number < 0 || number >= shape_.layers) {
      refuse(at, "layer {} does not exist: layers with a chain are 0 to {}",
             number, shape_.layers - 1);
    }
    auto& layer = own[static_cast<std::size_t>(number)];
    if (layer.has_value()) refuse(at, "layer {} is named twice", number);
    layer = placement(need(*table, "experts"));
  }

  [[nodiscard]] int rank(const toml::node& node, std::size_t expert) const {
    const std::int64_t rank = integer(node, "a rank");
    if (rank < 0 || rank >= shape_.ranks) {
      refuse(node, "expert {} is on rank {}, but ranks are 0 to {}", expert,
             rank, shape_.ranks - 1);
    }
    return static_cast<int>(rank);
  }

  [[nodiscard]] Placement placement(const toml::node& node) const {
    const toml::array& experts = list(node, "experts");
    if (static_cast<std::int64_t>(experts.size()) < shape_.experts) {
      refuse(node, "expert {} is missing: the model has {}, here are {}",
             experts.size(), shape_.experts, experts.size());
    }
    Holders holders;
    std::vector<bool> holds(static_cast<std::size_t>(shape_.ranks));
    for (const toml::node& entry : experts) {
      holders.push_back(of_expert(entry, holders.size()));
      for (const int rank : holders.back()) {
        holds[static_cast<std::size_t>(rank)] = true;
      }
    }
    const auto idle = std::find(holds.begin(), holds.end(), false);
    if (idle != holds.end()) {
      refuse(node, "rank {} holds no expert; give it one, or use fewer ranks",
             idle - holds.begin());
    }
    return {std::move(holders), shape_.ranks};
  }

  [[nodiscard]] std::vector<int> of_expert(const toml::node& entry,
                                           std::size_t expert) const {
    if (static_cast<std::int64_t>(expert) >= shape_.experts) {
      refuse(entry, "there is no expert {}: the model has {}, from 0", expert,
             shape_.experts);
    }
    if (!entry.is_array()) return {rank(entry, expert)};
    std::vector<int> ranks;
    for (const toml::node& holder : *entry.as_array()) {
      const int next = rank(holder, expert);
      if (std::find(ranks.begin(), ranks.end(), next) != ranks.end()) {
        refuse(holder, "rank {} holds expert {} twice", next, expert);
      }
      ranks.push_back(next);
    }
    if (ranks.empty()) refuse(entry, "nobody holds expert {}", expert);
    return ranks;
  }

  std::string name_;
  PlacementShape shape_;
};

}  // namespace

Placements parse_placements(std::string_view text, const std::string& name,
                            const PlacementShape& shape) {
  toml::table file;
  try {
    file = toml::parse(text, name);
  } catch (const toml::parse_error& problem) {
    const toml::source_position& at = problem.source().begin;
    fail(ErrorKind::kConfig, "{}:{}:{}: {}", name, at.line, at.column,
         problem.description());
  }
  return Reader(name, shape).read(file);
}

Placements read_placement_file(const std::filesystem::path& path,
                               const PlacementShape& shape) {
  return parse_placements(read_file(path), path.string(), shape);
}

}  // namespace catena
