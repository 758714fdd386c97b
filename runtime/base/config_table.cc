#include "runtime/base/config_table.h"

#include <fmt/format.h>

#include <algorithm>

#include "runtime/base/nearest.h"

namespace catena::config {
namespace {

bool lies_in(std::string_view path, std::string_view section) {
  return path.size() > section.size() && path.starts_with(section) &&
         path[section.size()] == '.';
}

}  // namespace

Field* Table::find(std::string_view path) {
  const auto found = positions.find(path);
  return found == positions.end() ? nullptr : &fields[found->second];
}

const Field* Table::find(std::string_view path) const {
  const auto found = positions.find(path);
  return found == positions.end() ? nullptr : &fields[found->second];
}

bool Table::has_section(std::string_view path) const {
  return std::any_of(
      sections.begin(), sections.end(), [&](const Section& section) {
        return section.path == path || lies_in(section.path, path);
      });
}

std::string Table::nearest(std::string_view path) const {
  // The right name in the wrong section is a likelier slip than a mistyped
  // one; then a few wrong letters; then a mistyped name in the wrong section.
  std::vector<std::string> all, same_name, names;
  if (path.size() > kLongestGuess) return "";
  const std::string_view name = split_path(path).second;
  for (const Field& field : fields) {
    const std::string_view own = split_path(field.key.path).second;
    all.push_back(field.key.path);
    names.emplace_back(own);
    if (own == name) same_name.push_back(field.key.path);
  }
  if (same_name.size() == 1) return same_name.front();
  std::string best = nearest_name(path, same_name);
  if (best.empty()) best = nearest_name(path, all);
  if (!best.empty()) return best;
  const std::string own = nearest_name(name, names);
  if (own.empty()) return "";
  const auto found = std::find(names.begin(), names.end(), own);
  return all[static_cast<std::size_t>(found - names.begin())];
}

std::string Table::nearest_section(std::string_view path) const {
  if (path.size() > kLongestGuess) return "";
  std::vector<std::string> all;
  for (const Section& section : sections) all.push_back(section.path);
  return nearest_name(path, all);
}

std::pair<std::string_view, std::string_view> split_path(
    std::string_view path) {
  const auto dot = path.rfind('.');
  if (dot == std::string_view::npos) return {{}, path};
  return {path.substr(0, dot), path.substr(dot + 1)};
}

std::string unknown_key(const Table& table, std::string_view path) {
  const std::string near = table.nearest(path);
  if (!near.empty()) {
    return fmt::format("unknown key {}; did you mean {}?", path, near);
  }
  return fmt::format("unknown key {}; docs/configuration.md lists every key",
                     path);
}

}  // namespace catena::config
