// Traces of the steps of real runs.

#include <cmath>
#include <map>
#include <set>

#include "tests/training/ranks_fixture.h"

namespace catena {
namespace {

using nlohmann::json;
using testing::HasSubstr;

/// A complete event; times in nanoseconds.
struct Span {
  std::string category, name;
  std::int64_t begin, end;
};
/// By process and track.
using Tracks = std::map<std::pair<int, int>, std::vector<Span>>;

std::int64_t nanoseconds(const json& microseconds) {
  return std::llround(microseconds.get<double>() * 1000);
}

class TraceCommandTest : public RanksFixture {
 protected:
  [[nodiscard]] fs::path file(const std::string& run, int rank) const {
    return folder_ / run / "trace" / fmt::format("rank-{}.json", rank);
  }
  /// The events of a file, all of whose tracks have names.
  static Tracks tracks_of(const std::string& text) {
    Tracks tracks;
    std::set<std::pair<int, int>> named;
    std::set<int> processes;
    const json trace = json_of(text);
    for (const json& event : trace["traceEvents"]) {
      const std::pair<int, int> track(event["pid"], event["tid"]);
      if (event["name"] == "process_name") processes.insert(track.first);
      if (event["name"] == "thread_name") named.insert(track);
      if (event["ph"] != "X") continue;
      const std::int64_t begin = nanoseconds(event["ts"]);
      tracks[track].push_back({event["cat"], event["name"], begin,
                               begin + nanoseconds(event["dur"])});
    }
    for (const auto& track : tracks) {
      EXPECT_TRUE(named.contains(track.first)) << track.first.second;
      EXPECT_TRUE(processes.contains(track.first.first));
    }
    return tracks;
  }
  /// Of each track, one is inside another or apart from it.
  static void expect_no_crossing(Tracks tracks) {
    for (auto& [track, spans] : tracks) {
      std::stable_sort(
          spans.begin(), spans.end(), [](const Span& a, const Span& b) {
            return a.begin != b.begin ? a.begin < b.begin : a.end > b.end;
          });
      std::vector<Span> open;
      for (const Span& span : spans) {
        EXPECT_LE(span.begin, span.end);
        while (!open.empty() && open.back().end <= span.begin) open.pop_back();
        if (!open.empty()) {
          EXPECT_LE(span.end, open.back().end)
              << track.second << ": " << span.name << " crosses the end of "
              << open.back().name;
        }
        open.push_back(span);
      }
    }
  }
  static std::vector<Span> steps_of(const Tracks& tracks, int rank) {
    std::vector<Span> steps;
    for (const Span& span : tracks.at({rank, 1})) {
      if (span.category == "step") steps.push_back(span);
    }
    return steps;
  }
  /// Every event of a rank lies within one of its steps, and there are such
  /// kinds of them.
  static void expect_within_steps(const Tracks& tracks, int rank,
                                  const std::set<std::string>& kinds) {
    const std::vector<Span> steps = steps_of(tracks, rank);
    std::set<std::string> found;
    for (const auto& [track, spans] : tracks) {
      if (track.first != rank) continue;
      for (const Span& span : spans) {
        found.insert(span.category);
        EXPECT_TRUE(std::any_of(steps.begin(), steps.end(),
                                [&](const Span& step) {
                                  return step.begin <= span.begin &&
                                         span.end <= step.end;
                                }))
            << span.name;
      }
    }
    EXPECT_EQ(found, kinds);
  }
};

TEST_F(TraceCommandTest, TellsWhatRanksDidInTheseSteps) {
  const std::string chunks = "--set parallel.chunks=2 ";
  ASSERT_EQ(run(by(2, 2, "plain", chunks)).code, 0);
  const Outcome traced = run(by(2, 2, "run", chunks + "--trace steps=2:3"));
  ASSERT_EQ(traced.code, 0) << traced.err;
  EXPECT_THAT(traced.err, HasSubstr("catena trace merge "));
  EXPECT_EQ(losses("run"), losses("plain")) << "who is watched does the same";
  for (const int rank : {0, 1}) {
    const Tracks tracks = tracks_of(read_file(file("run", rank)));
    const auto steps = steps_of(tracks, rank);
    ASSERT_EQ(steps.size(), 2U);
    EXPECT_EQ(steps[0].name, "step 2");
    EXPECT_EQ(steps[0].begin, 0);
    EXPECT_EQ(steps[1].name, "step 3");
    expect_within_steps(tracks, rank, {"step", "kernel", "wait", "exchange"});
    expect_no_crossing(tracks);
  }
}

TEST_F(TraceCommandTest, IsMergedToOneFileOfAllRanks) {
  ASSERT_EQ(run(by(2, 2, "run", "--trace steps=2:3")).code, 0);
  const Outcome merged = run("trace merge " + (folder_ / "run").string());
  ASSERT_EQ(merged.code, 0) << merged.err;
  EXPECT_THAT(merged.out, HasSubstr("trace/all.json: 2 ranks, steps 2 to 3, "));
  const std::string text = read_file(folder_ / "run/trace/all.json");
  const Tracks tracks = tracks_of(text);
  expect_no_crossing(tracks);
  const auto first = steps_of(tracks, 0), second = steps_of(tracks, 1);
  ASSERT_EQ(first.size(), 2U);
  ASSERT_EQ(second.size(), 2U);
  // Ranks take a step together.
  for (std::size_t i : {0, 1}) {
    EXPECT_LT(first[i].begin, second[i].end);
    EXPECT_LT(second[i].begin, first[i].end);
  }
  fs::remove(file("run", 1));
  const Outcome half = run("trace merge " + (folder_ / "run").string());
  EXPECT_EQ(half.code, 0);
  EXPECT_THAT(half.err, HasSubstr("ranks 1 have no trace of these steps"));
  fs::resize_file(file("run", 0), fs::file_size(file("run", 0)) - 10);
  EXPECT_EQ(run("trace merge " + (folder_ / "run").string()).code, 65);
}

TEST_F(TraceCommandTest, EndsWithTheRunThatEndsBefore) {
  ASSERT_EQ(run(small("run", "--set train.steps=4 --trace steps=3:9")).code, 0);
  const Tracks tracks = tracks_of(read_file(file("run", 0)));
  EXPECT_EQ(steps_of(tracks, 0).size(), 2U);
  expect_within_steps(tracks, 0, {"step", "kernel"});
  // Going on, the run has no such step any more.
  const Outcome resumed =
      run(small("run", "--set train.steps=6 --resume --trace steps=1:2"));
  EXPECT_EQ(resumed.code, 0) << resumed.err;
  EXPECT_EQ(steps_of(tracks_of(read_file(file("run", 0))), 0).size(), 2U);
}

TEST_F(TraceCommandTest, ComesFromALaunchToo) {
  const std::string arguments =
      small("run", "--set train.steps=4").substr(std::string("train ").size());
  const Outcome wrong = run("launch -n 2 --trace 2:3 " + arguments);
  EXPECT_EQ(wrong.code, 64);
  EXPECT_THAT(wrong.err, HasSubstr("--trace 2:3: name the steps, such as "
                                   "--trace steps=20:22"));
  EXPECT_FALSE(fs::exists(folder_ / "run"));
  const Outcome launched = run("launch -n 2 --trace steps=2:3 " + arguments);
  ASSERT_EQ(launched.code, 0) << launched.err;
  for (const int rank : {0, 1}) {
    const Tracks tracks = tracks_of(read_file(file("run", rank)));
    EXPECT_EQ(steps_of(tracks, rank).size(), 2U);
  }
}

TEST_F(TraceCommandTest, StepsThatTheRunHasNotAreRefused) {
  expect_refused(small("run", "--trace steps=31:40"), 64,
                 "--trace steps=31:40: the run ends at step 30");
  expect_refused(small("run", "--trace steps=7:3"), 64,
                 "--trace steps=7:3: steps count from 1");
  expect_refused(small("run", "--trace steps="), 64, "--trace steps=: give ");
  EXPECT_FALSE(fs::exists(folder_ / "run"));
}

}  // namespace
}  // namespace catena
