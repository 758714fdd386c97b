#include "launcher/monitor/site.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "launcher/monitor/assets.h"
#include "tests/launcher/monitor/run_files.h"

namespace catena::launcher {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using Json = nlohmann::json;

class SiteTest : public ::testing::Test {
 protected:
  SiteTest() { files_.write_run(); }
  SiteResponse get(std::string_view target, std::string_view host = "[::1]:9",
                   std::string_view method = "GET") {
    return site().answer({method, target, host});
  }
  Site& site() {
    if (!site_) site_.emplace(files_.path());
    return *site_;
  }
  Json json(std::string_view target) {
    const SiteResponse response = get(target);
    EXPECT_EQ(response.status, 200) << target;
    EXPECT_EQ(response.type, "application/json");
    return Json::parse(response.body);
  }

  RunFiles files_;
  std::optional<Site> site_;
};

TEST_F(SiteTest, HostIsAnAddressOrLocalhost) {
  for (const char* host : {"127.0.0.1", "127.0.0.1:8080", "10.0.0.7:80",
                           "localhost", "localhost:1", "[::1]", "[::1]:80"}) {
    EXPECT_TRUE(is_address(host)) << host;
  }
  for (const char* host :
       {"", "evil.example", "evil.example:80", "localhost.evil.example",
        "127.0.0.1.evil.example", "1.2.3", "[::1", "[::1]x", "::1", "[]",
        "127.0.0.1 evil", "LOCALHOST@x"}) {
    EXPECT_FALSE(is_address(host)) << host;
  }
}

TEST_F(SiteTest, AnotherNameIsRefused) {
  EXPECT_EQ(get("/api/run", "evil.example").status, 403);
  EXPECT_EQ(get("/", "").status, 403);
}

TEST_F(SiteTest, OnlyGetAndHeadAreTaken) {
  for (const char* method : {"POST", "PUT", "DELETE", "OPTIONS", "X", ""}) {
    EXPECT_EQ(get("/", "localhost", method).status, 405) << method;
  }
  EXPECT_EQ(get("/", "localhost", "HEAD").status, 200);
}

TEST_F(SiteTest, NothingThatWasAskedIsRepeated) {
  for (const char* target :
       {"/<script>", "/api/<script>", "/api/log/<script>", "/?<script>",
        "/api/run?<script>", "<script>", "//<script>/", ""}) {
    const SiteResponse response = get(target);
    EXPECT_THAT(response.body, Not(HasSubstr("?<script>"))) << target;
    if (response.status == 404) {
      EXPECT_EQ(response.body, "Not found.\n") << target;
    }
  }
}

TEST_F(SiteTest, NoPathLeadsOutOfTheRun) {
  for (const char* target :
       {"/api/log/../../etc/passwd", "/api/log/-1", "/api/log/5000",
        "/api/log/0/../1", "/../config.toml", "/config.toml", "/api/log/1x",
        "/api/log/", "/api/log/launcher.log", "/api/", "/api/run/"}) {
    EXPECT_EQ(get(target).status, 404) << target;
  }
}

TEST_F(SiteTest, ServesThePageAndItsFiles) {
  EXPECT_THAT(get("/").body, HasSubstr("/page.js"));
  EXPECT_EQ(get("/").type, "text/html");
  EXPECT_EQ(get("/chart.js").type, "text/javascript");
  EXPECT_GT(get("/chart.js").body.size(), 100000U);
  EXPECT_EQ(get("/healthz").body, "ok\n");
  std::size_t all = 0;
  for (const Asset& asset : assets()) all += asset.content.size();
  EXPECT_LT(all, 300000U);
}

TEST_F(SiteTest, ThePageLoadsNothingFromElsewhere) {
  for (const Asset& asset : assets()) {
    if (asset.path == "/chart.js" || asset.path == "/icon.svg") continue;
    EXPECT_THAT(std::string(asset.content), Not(HasSubstr("://")))
        << asset.path;
  }
}

TEST_F(SiteTest, TellsHowTheRunStands) {
  const Json run = json("/api/run");
  EXPECT_EQ(run["state"], "RUNNING");
  EXPECT_EQ(run["steps"], 20);
  EXPECT_EQ(run["newest"]["step"], 10);
  EXPECT_EQ(run["newest"]["validation_loss"], 4.5);
  EXPECT_DOUBLE_EQ(run["eta_seconds"], 6.25);
  EXPECT_EQ(run["restarts"][0]["signal"], 9);
  EXPECT_EQ(run["checkpoint_step"], 10);
  ASSERT_EQ(run["ranks"].size(), 2U);
  EXPECT_EQ(run["ranks"][0]["state"], "running");
  EXPECT_EQ(run["ranks"][1]["state"], "failed");
  EXPECT_EQ(run["ranks"][1]["straggler"], 2);
  EXPECT_EQ(run["events"][1]["reason"], "a spike");
  EXPECT_EQ(run["read"], 1);
}

TEST_F(SiteTest, TellsTheCurvesAndTheRouting) {
  const Json series = json("/api/series");
  ASSERT_EQ(series["step"].size(), 10U);
  EXPECT_EQ(series["loss"][0], 7);
  EXPECT_EQ(series["exposed_dispatch"][9], 0.125);
  EXPECT_EQ(series["validation"]["loss"], (Json{9.5, 4.5}));
  const Json routing = json("/api/routing");
  EXPECT_EQ(routing["snapshots"][1]["load"][1][1], (Json{0, 6, 10}));
  EXPECT_EQ(routing["transitions"][0][0][8], 10);
}

TEST_F(SiteTest, TellsTheEndOfLogs) {
  EXPECT_EQ(get("/api/log/launcher").body, "of the launcher\n");
  EXPECT_EQ(get("/api/log/0").body, "of rank 0\n");
  EXPECT_EQ(get("/api/log/1").body, "of rank 1\n");
  EXPECT_EQ(get("/api/log/2").body, "");
  for (int i = 0; i < 5000; ++i) {
    files_.append("logs/rank-0.log", "a line of some length\n");
  }
  const std::string end = get("/api/log/0").body;
  EXPECT_LE(end.size(), 64U << 10);
  EXPECT_TRUE(end.starts_with("a line of some length\n"));
  std::filesystem::remove(files_.path() / "job.json");
  EXPECT_EQ(get("/api/log/0").body, "of the trainer\n");
}

TEST_F(SiteTest, WhatDidNotChangeIsNotSentAgain) {
  const SiteResponse first = get("/api/series");
  ASSERT_FALSE(first.etag.empty());
  EXPECT_EQ(
      site().answer({"GET", "/api/series", "localhost", first.etag}).status,
      304);
  EXPECT_EQ(site().answer({"GET", "/api/series", "localhost", "\"x\""}).status,
            200);
}

// Numbers that JSON has no word for.
TEST_F(SiteTest, WhatIsNotFiniteIsNull) {
  files_.replace("metrics.jsonl",
                 "{\"catena_step\":1,\"catena_loss\":{\"train\":null},"
                 "\"catena_step_duration_seconds\":1e999}\n"
                 "{\"catena_step\":2,\"catena_loss\":{\"train\":null},"
                 "\"catena_step_duration_seconds\":2}\n");
  EXPECT_TRUE(json("/api/series")["loss"][0].is_null());
  EXPECT_TRUE(json("/api/run")["newest"]["loss"].is_null());
}

}  // namespace
}  // namespace catena::launcher
