#include "training/kernel_table.h"

#include <nlohmann/json.hpp>

#include "runtime/base/files.h"
#include "training/estimate.h"

namespace catena {
namespace {

constexpr int kVersion = 1;

double amount(const std::string& name, const Cost& cost) {
  return is_product(name) ? cost.flops : cost.read_bytes + cost.write_bytes;
}

}  // namespace

double KernelTable::kernel_seconds() const {
  double sum = 0;
  for (const auto& [name, entry] : kernels) sum += entry.seconds;
  return sum;
}

KernelModel KernelTable::model(double factor) const {
  return [*this, factor](std::string_view name, const Cost& cost) {
    const std::string key(name);
    const double wanted = amount(key, cost);
    if (wanted == 0) return 0.0;
    const auto found = kernels.find(key);
    CATENA_CHECK(found != kernels.end(), "[kernel table] no {}", name);
    const double measured = amount(key, found->second.cost);
    return measured > 0 ? factor * found->second.seconds * wanted / measured
                        : 0.0;
  };
}

std::optional<double> KernelTable::foretell(
    const std::map<std::string, Cost>& step) const {
  double seconds = 0;
  for (const auto& [name, cost] : step) {
    const double wanted = amount(name, cost);
    if (wanted == 0) continue;
    const auto found = kernels.find(name);
    if (found == kernels.end()) return std::nullopt;
    const double measured = amount(name, found->second.cost);
    if (measured <= 0) return std::nullopt;
    seconds += found->second.seconds * wanted / measured;
  }
  const double inside = kernel_seconds();
  return inside > 0 ? seconds * step_seconds / inside : seconds;
}

std::filesystem::path kernel_table_path(const std::filesystem::path& cache,
                                        DType dtype) {
  return cache / fmt::format("kernels-{}.json", name(dtype));
}

void save(const KernelTable& table, const std::filesystem::path& path) {
  nlohmann::ordered_json json{{"version", kVersion},
                              {"layout", table.layout},
                              {"step_seconds", table.step_seconds},
                              {"kernels", nlohmann::ordered_json::object()}};
  for (const auto& [name, entry] : table.kernels) {
    json["kernels"][name] = {{"flops", entry.cost.flops},
                             {"read_bytes", entry.cost.read_bytes},
                             {"write_bytes", entry.cost.write_bytes},
                             {"seconds", entry.seconds}};
  }
  write_file_atomically(path, json.dump(1) + "\n");
}

std::optional<KernelTable> load_kernel_table(
    const std::filesystem::path& path) {
  if (!std::filesystem::exists(path)) return std::nullopt;
  try {
    const auto json = nlohmann::json::parse(read_file(path));
    if (json.at("version") != kVersion) return std::nullopt;
    KernelTable table;
    table.layout = json.at("layout");
    table.step_seconds = json.at("step_seconds");
    for (const auto& entry : json.at("kernels").items()) {
      const auto& value = entry.value();
      table.kernels[entry.key()] = {
          {value.at("flops"), value.at("read_bytes"), value.at("write_bytes")},
          value.at("seconds")};
    }
    return table;
  } catch (const nlohmann::json::exception&) {
    // Only a cache: a damaged one is as good as none.
    return std::nullopt;
  }
}

}  // namespace catena
