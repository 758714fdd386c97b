// deploy/prometheus and deploy/grafana speak of what is really served.

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>

#include "launcher/monitor/run_metrics.h"
#include "launcher/monitor/run_reader.h"
#include "runtime/base/files.h"
#include "tests/launcher/monitor/run_files.h"

namespace catena::launcher {
namespace {

namespace fs = std::filesystem;
using ::testing::Contains;
using ::testing::IsEmpty;
using ::testing::Not;
using Json = nlohmann::json;
using Names = std::set<std::string>;

const fs::path kDeploy = fs::path(CATENA_SOURCE_DIR) / "deploy";

/// What the first group of an expression matches, everywhere in a text.
Names all_of(const std::string& text, const char* expression) {
  const std::regex pattern(expression);
  Names names;
  for (std::sregex_iterator at(text.begin(), text.end(), pattern), end;
       at != end; ++at) {
    names.insert((*at)[1]);
  }
  return names;
}

/// Of the samples of a run that has all there is.
Names served() {
  const RunFiles files;
  files.write_run();
  RunReader reader(files.path());
  reader.refresh(std::chrono::seconds(60));
  return all_of(RunMetrics().text(reader.view(), 4e9),
                "(?:^|\n)(catena_[a-z0-9_]+)[ {]");
}

std::string rules() {
  return read_file(kDeploy / "prometheus/catena.rules.yml");
}

Names known() {
  Names names = served();
  names.merge(all_of(rules(), "record: (\\S+)"));
  return names;
}

Json dashboard() {
  return Json::parse(read_file(kDeploy / "grafana/catena.json"));
}

/// Every query of it, the variables filled in.
std::vector<std::string> queries() {
  std::vector<std::string> result;
  const auto add = [&result](std::string text) {
    text = std::regex_replace(text, std::regex("\\$instance"), ".*");
    text = std::regex_replace(text, std::regex("\\$__(rate_)?interval"), "5m");
    result.push_back(text);
  };
  const Json page = dashboard();
  for (const Json& panel : page.at("panels")) {
    for (const Json& target : panel.value("targets", Json::array())) {
      add(target.at("expr"));
    }
  }
  for (const Json& note : page.at("annotations").at("list")) {
    add(note.at("expr"));
  }
  return result;
}

int promtool(const std::string& arguments) {
  return std::system(("promtool " + arguments).c_str());
}

TEST(DeployTest, RulesNameWhatIsServed) {
  const Names names = all_of(rules(), "[^:a-z](catena[:_][a-z0-9_:]+)");
  EXPECT_GT(names.size(), 10U);
  const Names there = known();
  for (const std::string& name : names) {
    EXPECT_THAT(there, Contains(name)) << "catena.rules.yml";
  }
}

TEST(DeployTest, TheDashboardNamesWhatIsServed) {
  const Names there = known();
  Names shown;
  for (const std::string& query : queries()) {
    const Names names = all_of(" " + query, "[^:a-z](catena[:_][a-z0-9_:]+)");
    EXPECT_THAT(names, Not(IsEmpty())) << query;
    for (const std::string& name : names) {
      EXPECT_THAT(there, Contains(name)) << query;
    }
    shown.insert(names.begin(), names.end());
  }
  EXPECT_GT(shown.size(), 25U);
}

TEST(DeployTest, PanelsOfTheDashboardHaveTheirPlaces) {
  Names numbers;
  std::set<std::pair<int, int>> taken;
  const Json page = dashboard();
  for (const Json& panel : page.at("panels")) {
    const std::string title = panel.at("title");
    EXPECT_TRUE(numbers.insert(panel.at("id").dump()).second) << title;
    const Json& place = panel.at("gridPos");
    const int x = place.at("x"), y = place.at("y");
    const int width = place.at("w"), height = place.at("h");
    EXPECT_LE(x + width, 24) << title;
    for (int i = 0; i < width * height; ++i) {
      EXPECT_TRUE(taken.emplace(x + i % width, y + i / width).second) << title;
    }
  }
}

class PromtoolTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (std::system("command -v promtool > /dev/null 2>&1") != 0) {
      GTEST_SKIP() << "NO PROMTOOL: rules and queries are not checked (Debian: "
                      "prometheus)";
    }
  }
};

TEST_F(PromtoolTest, TheConfigurationAndItsRulesAreRight) {
  EXPECT_EQ(promtool("check config --lint-fatal '" +
                     (kDeploy / "prometheus/prometheus.yml").string() + "'"),
            0);
}

TEST_F(PromtoolTest, EveryAlertFiresWhenItShould) {
  EXPECT_EQ(promtool("test rules '" CATENA_SOURCE_DIR
                     "/tests/launcher/monitor/rules_test.yml'"),
            0);
}

// As rules, which promtool reads.
TEST_F(PromtoolTest, QueriesOfTheDashboardAreRight) {
  Json list = Json::array();
  for (const std::string& query : queries()) {
    list.push_back({{"record", fmt::format("query:number{}", list.size())},
                    {"expr", query}});
  }
  const Json file = {{"groups", {{{"name", "queries"}, {"rules", list}}}}};
  const RunFiles files;
  files.replace("queries.yml", file.dump(1));
  EXPECT_EQ(promtool("check rules --lint-fatal '" +
                     (files.path() / "queries.yml").string() + "'"),
            0);
}

}  // namespace
}  // namespace catena::launcher
