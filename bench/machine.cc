// catena-bench-machine [--text CORPUS --tokenizer PATH...]...
// Measures what the machine gives (instructions, memory), how near AdamW comes
// to it, and how fast text becomes tokens; prints one JSON line.

#include "runtime/base/machine.h"

#include <CLI/CLI.hpp>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "bench/bandwidth.h"
#include "bench/program.h"
#include "bench/tokenizing.h"

namespace catena::bench {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr std::size_t kTextBytes = std::size_t{8} << 20;
constexpr std::int64_t kNumbers = std::int64_t{1} << 25;

Json json(const Rate& rate) {
  return {{"median", rate.median / 1e9}, {"best", rate.best / 1e9}};
}

Json machine() {
  const auto backend = make_cpu_backend(0);
  cpu::ThreadPool pool(0);
  const Rate single = peak_flops(pool, DType::kFloat32);
  const Rate half = peak_flops(pool, DType::kBFloat16);
  const Bandwidth memory = measure_bandwidth(*backend, pool, kNumbers);
  return {{"processor", processor_name()},
          {"threads", pool.threads()},
          {"float32_peak_gflops", json(single)},
          {"bfloat16_peak_gflops", json(half)},
          {"triad_gigabytes", json(memory.triad)},
          {"in_place_gigabytes", json(memory.in_place)},
          {"in_place_and_copy_gigabytes", json(memory.in_place_and_copy)},
          {"adamw_gigabytes", json(memory.adamw)},
          {"adamw_and_copy_gigabytes", json(memory.adamw_and_copy)}};
}

Json tokenizing(const std::vector<std::string>& texts,
                const std::vector<std::string>& tokenizers) {
  Json rows = Json::array();
  for (const fs::path path : texts) {
    const Text text = read_text(path, kTextBytes);
    for (const fs::path tokenizer : tokenizers) {
      const TokenizingSpeed speed = time_tokenizing(tokenizer, text);
      rows.push_back({{"text", path.string()},
                      {"tokenizer", tokenizer.string()},
                      {"megabytes", text.bytes / 1e6},
                      {"bytes_a_token", speed.bytes_a_token},
                      {"first_megabytes_a_second", speed.first_pass / 1e6},
                      {"megabytes_a_second", speed.later / 1e6}});
    }
  }
  return rows;
}

}  // namespace

int run(int argc, char** argv) {
  CLI::App app("Measures the machine and the tokenizer.",
               "catena-bench-machine");
  std::vector<std::string> texts, tokenizers;
  app.add_option("--text", texts, "a corpus; repeatable");
  app.add_option("--tokenizer", tokenizers, "repeatable");
  CLI11_PARSE(app, argc, argv);
  Json result = machine();
  result["tokenizing"] = tokenizing(texts, tokenizers);
  std::printf("%s\n", result.dump().c_str());
  return 0;
}

}  // namespace catena::bench
