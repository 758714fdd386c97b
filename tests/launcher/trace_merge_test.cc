#include "launcher/trace_merge.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>

#include "runtime/base/error.h"
#include "runtime/base/files.h"
#include "tests/support/json.h"

namespace catena::launcher {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class TraceMergeTest : public ::testing::Test {
 protected:
  TraceMergeTest() {
    std::string name = (fs::temp_directory_path() / "traceXXXXXX").string();
    folder_ = ::mkdtemp(name.data());
  }
  ~TraceMergeTest() override { fs::remove_all(folder_); }

  /// The trace of a rank with one event, at its own time 1.5 us.
  void write(int rank, const char* host, std::int64_t steady,
             std::int64_t calendar, int ranks = 3, int last_step = 22) const {
    write_file_atomically(
        folder_ / fmt::format("trace/rank-{}.json", rank),
        fmt::format(
            R"({{"displayTimeUnit": "ms", "otherData": {{"rank": {0}, )"
            R"("ranks": {4}, "steps": [20, {5}], "left_out": 1, )"
            R"("host": "{1}", "steady_ns": {2}, "unix_ns": {3}}},)"
            "\n\"traceEvents\": [\n"
            R"({{"ph": "M", "pid": {0}, "tid": 1, "name": "thread_name", )"
            R"("args": {{"name": "compute"}}}},)"
            "\n"
            R"({{"ph": "X", "pid": {0}, "tid": 1, "cat": "kernel", )"
            R"("name": "gemm", "ts": 1.500, "dur": 2.001}})"
            "\n]}}\n",
            rank, host, steady, calendar, ranks, last_step));
  }
  [[nodiscard]] MergedTrace merge() const {
    return merge_traces(folder_, folder_ / "all.json");
  }
  /// The complete events' begins, in the order of ranks.
  [[nodiscard]] std::vector<double> begins() const {
    std::vector<double> times;
    const json merged = json_of(read_file(folder_ / "all.json"));
    for (const json& event : merged["traceEvents"]) {
      if (event["ph"] != "X") continue;
      EXPECT_EQ(event["dur"], 2.001);
      EXPECT_EQ(event["pid"], times.size());
      times.push_back(event["ts"]);
    }
    return times;
  }
  void expect_refused(const char* message) const {
    try {
      static_cast<void>(merge());
      FAIL() << message;
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr(message));
      EXPECT_FALSE(fs::exists(folder_ / "all.json"));
    }
  }

  fs::path folder_;
};

// Calendars of ranks of one host that differ were set in between.
TEST_F(TraceMergeTest, RanksOfOneHostShareItsClock) {
  write(0, "a", 1000, 1'700'000'000'000'000'000);
  write(1, "a", 3001, 1'700'000'009'000'000'000);
  write(2, "b", 500, 1'699'999'999'999'999'000);
  const MergedTrace merged = merge();
  EXPECT_THAT(begins(), ElementsAre(2.5, 4.501, 1.5));
  EXPECT_EQ(merged.ranks, 3);
  EXPECT_EQ(merged.hosts, 2);
  EXPECT_EQ(merged.events, 3);
  EXPECT_EQ(merged.left_out, 3);
  EXPECT_EQ(merged.first, 20);
  EXPECT_EQ(merged.last, 22);
  EXPECT_THAT(merged.missing, IsEmpty());
}

TEST_F(TraceMergeTest, RanksOfOtherStepsAreMissing) {
  write(0, "a", 1000, 5000);
  write(1, "a", 1000, 5000, 3, 23);
  write(9, "a", 1000, 5000, 10);
  write_file_atomically(folder_ / "trace/rank-x.json", "{");
  write_file_atomically(folder_ / "trace/all.json", "{");
  const MergedTrace merged = merge();
  EXPECT_EQ(merged.ranks, 1);
  EXPECT_THAT(merged.missing, ElementsAre(1, 2));
  EXPECT_THAT(begins(), ElementsAre(1.5));
}

TEST_F(TraceMergeTest, SaysWhereAFileIsWrong) {
  expect_refused("trace: there is no trace; `catena train --trace");
  write(0, "a", 1000, 5000);
  const fs::path path = folder_ / "trace/rank-0.json";
  const std::string whole = read_file(path);
  const auto with = [&](const std::string& text, const char* message) {
    write_file_atomically(path, text);
    expect_refused(message);
  };
  with("", "rank-0.json:1: is missing or not whole: the file is cut short");
  with("[]\n", "rank-0.json:1: is no trace");
  with(std::string(100000, '['), "rank-0.json:1: is longer than any");
  with(whole.substr(0, whole.find("{\"ph\"")), "rank-0.json:3: is missing");
  with(whole.substr(0, whole.size() - 20),
       "rank-0.json:4: is missing or not whole");
  with(whole.substr(0, whole.find("]}")), "rank-0.json:5: is missing");
  const auto other = [&](const char* found, const char* instead,
                         const char* message) {
    std::string text = whole;
    text.replace(text.rfind(found), std::strlen(found), instead);
    with(text, message);
  };
  other("{\"ph\"", "\"ph\"", "rank-0.json:4: is no event");
  other("\"ranks\": 3", "\"ranks\": 4000000000", "1: is no trace");
  other("\"unix_ns\": 5000", "\"unix_ns\": 1e300", "1: is no trace");
  other("\"ts\": 1.500", "\"ts\": -1", "4: is an event without time");
  other("\"ts\": 1.500", "\"ts\": 1e16", "4: is an event without time");
  other("\"pid\": 0", "\"pid\": 1", "4: is an event without time, or of an");
  other("\"gemm\"", "\"gemm\", \"args\": {\"a\": []}", "4: is an event of an");
  other("\"rank\": 0", "\"rank\": 1", "0.json: is the trace of rank 1");
}

}  // namespace
}  // namespace catena::launcher
