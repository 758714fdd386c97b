#include "training/cluster.h"

#include <algorithm>

#include "runtime/base/config.h"

namespace catena {
namespace {

constexpr double kMost = 1e9;

struct LinkKeys {
  double gb_per_second = 1, message_us = 0, latency_us = 0;
  bool takes_core = false;

  [[nodiscard]] Link link() const {
    return {gb_per_second * 1e9, message_us * 1e-6, latency_us * 1e-6,
            takes_core};
  }
};

void describe(config::Schema& schema, const std::string& section,
              const char* help, LinkKeys& keys) {
  const auto key = [&](const char* name) { return section + "." + name; };
  schema.section(section, help);
  schema.add(key("gb_per_second"), keys.gb_per_second,
             config::Number{1e-6, kMost, "GB/s",
                            "What a rank sends, and receives meanwhile."});
  schema.add(key("message_us"), keys.message_us,
             config::Number{0, kMost, "microseconds",
                            "What a message takes beside its bytes; the next "
                            "one waits so long."});
  schema.add(key("latency_us"), keys.latency_us,
             config::Number{0, kMost, "microseconds",
                            "From when a message has left until it is there; "
                            "the next one does not wait."});
  schema.add(key("takes_core"), keys.takes_core,
             config::Switch{"The rank's own core copies, so that nothing can "
                            "be computed meanwhile."});
}

}  // namespace

double Roofline::operator()(std::string_view kernel, const Cost& cost) const {
  const auto is = [&](const char* word) {
    return kernel.find(word) != std::string_view::npos;
  };
  const double rate = is("grouped_gemm") ? grouped_gemm_flops
                      : is("attention")  ? attention_flops
                                         : gemm_flops;
  const double bytes = cost.read_bytes + cost.write_bytes;
  return launch_seconds +
         std::max(cost.flops / rate, bytes / memory_bytes_per_second);
}

Cluster load_cluster(const std::filesystem::path& path) {
  Cluster cluster;
  double peak = 1, gemm = 1, grouped = 1, attention = 1, memory = 1, launch = 0;
  LinkKeys inside, across;
  config::Schema schema;
  schema.section("node", "One machine.");
  schema.add("node.ranks", cluster.ranks_per_node,
             config::Integer{1, 1024, "ranks", "Ranks of a node."});
  schema.section("device", "What one rank computes on.");
  const std::tuple<const char*, double*, const char*> rates[] = {
      {"peak_tflops", &peak, "What MFU is a share of."},
      {"gemm_tflops", &gemm, "Large products."},
      {"grouped_gemm_tflops", &grouped, "Products of experts."},
      {"attention_tflops", &attention, "Attention."}};
  for (const auto& [name, field, help] : rates) {
    schema.add(fmt::format("device.{}", name), *field,
               config::Number{1e-6, kMost, "TFLOP/s", help});
  }
  schema.add("device.memory_gb_per_second", memory,
             config::Number{1e-6, kMost, "GB/s", "What kernels move."});
  schema.add("device.launch_us", launch,
             config::Number{0, kMost, "microseconds", "Before every kernel."});
  describe(schema, "inside", "Between ranks of a node.", inside);
  describe(schema, "across", "Between nodes.", across);
  schema.read_file(path);
  schema.finish();
  for (const auto& [name, field, help] : rates) {
    const std::string key = fmt::format("device.{}", name);
    if (!schema.was_set(key)) schema.problem(key, "is missing");
  }
  for (const char* key : {"node.ranks", "device.memory_gb_per_second",
                          "inside.gb_per_second", "across.gb_per_second"}) {
    if (!schema.was_set(key)) schema.problem(key, "is missing");
  }
  schema.finish();
  cluster.name = path.stem().string();
  cluster.peak_flops = peak * 1e12;
  cluster.kernels = Roofline{.gemm_flops = gemm * 1e12,
                             .grouped_gemm_flops = grouped * 1e12,
                             .attention_flops = attention * 1e12,
                             .memory_bytes_per_second = memory * 1e9,
                             .launch_seconds = launch * 1e-6};
  cluster.inside = inside.link();
  cluster.across = across.link();
  return cluster;
}

}  // namespace catena
