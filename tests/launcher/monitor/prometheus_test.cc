// A real Prometheus, with the configuration of deploy/prometheus, on the files
// of a run of two ranks.

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <optional>
#include <regex>
#include <thread>

#include "launcher/monitor/monitor.h"
#include "runtime/base/files.h"
#include "tests/launcher/monitor/run_files.h"
#include "tests/launcher/program.h"
#include "tests/support/http_client.h"

namespace catena::launcher {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

template <class Condition>
bool wait_for(const Condition& condition) {
  for (int i = 0; i < 1200; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  return false;
}

class PrometheusTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (std::system("command -v prometheus > /dev/null 2>&1") != 0) {
      GTEST_SKIP() << "NO PROMETHEUS: it is not installed, and nobody scrapes "
                      "/metrics (Debian: prometheus)";
    }
    files_.write_run();
    monitor_.emplace(files_.path());
    start();
  }

  /// The configuration as it is, but for the port and for how often.
  void start() {
    const fs::path deploy = fs::path(CATENA_SOURCE_DIR) / "deploy/prometheus";
    std::string config = read_file(deploy / "prometheus.yml");
    config = std::regex_replace(config, std::regex("9430"),
                                fmt::format("{}", monitor_->port()));
    config =
        std::regex_replace(config, std::regex("interval: 15s"), "interval: 1s");
    own_.replace("prometheus.yml", config);
    fs::copy(deploy / "catena.rules.yml", own_.path() / "catena.rules.yml");
    program_.emplace("/bin/sh",
                     std::vector<std::string>{
                         "sh", "-c",
                         fmt::format("cd '{}' && exec prometheus --config.file="
                                     "prometheus.yml --storage.tsdb.path=data "
                                     "--web.listen-address=127.0.0.1:0 2> said",
                                     own_.path().string())},
                     std::vector<std::string>{});
    ASSERT_TRUE(wait_for([this] {
      const fs::path said = own_.path() / "said";
      std::smatch found;
      const std::string text = fs::exists(said) ? read_file(said) : "";
      static const std::regex listens("address=127.0.0.1:([1-9][0-9]*)");
      if (!std::regex_search(text, found, listens)) return false;
      port_ = static_cast<std::uint16_t>(std::stoi(found[1]));
      return true;
    })) << read_file(own_.path() / "said");
  }

  [[nodiscard]] Json ask(const std::string& target) const {
    const Json answer =
        Json::parse(http_get(port_, "/api/v1/" + target), nullptr, false);
    return answer.is_object() ? answer.value("data", Json()) : Json();
  }
  /// The value of a query's only sample; "" where there is not one.
  [[nodiscard]] std::string value(const std::string& query) const {
    const Json data = ask("query?query=" + query);
    const Json result = data.is_object() ? data.at("result") : Json::array();
    return result.size() == 1 ? result[0].at("value").at(1) : "";
  }

  RunFiles files_, own_;
  std::optional<Monitor> monitor_;
  std::optional<Program> program_;
  std::uint16_t port_ = 0;
};

TEST_F(PrometheusTest, ScrapesTheRunAndEvaluatesTheRules) {
  EXPECT_TRUE(wait_for([&] { return value("catena_step") == "10"; }));
  EXPECT_EQ(value("up"), "1");
  files_.append("metrics.jsonl", RunFiles::step(11));
  EXPECT_TRUE(wait_for([&] { return value("catena_step") == "11"; }));
  EXPECT_TRUE(wait_for(
      [&] { return value("catena:rank_load_max_to_mean:max") == "1.75"; }));
  int rules = 0;
  const Json said = ask("rules");
  for (const Json& group : said.at("groups")) {
    for (const Json& rule : group.at("rules")) {
      EXPECT_NE(rule.at("health"), "err") << rule.dump();
      ++rules;
    }
  }
  EXPECT_GE(rules, 10);
}

}  // namespace
}  // namespace catena::launcher
