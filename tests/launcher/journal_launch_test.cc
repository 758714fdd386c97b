// The journal that `catena launch` leaves, also where it is killed.

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "tests/launcher/launched.h"

namespace catena::launcher {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

class JournalLaunchTest : public Launched {
 protected:
  [[nodiscard]] std::string text() const {
    const fs::path path = run() / "journal.jsonl";
    return fs::exists(path) ? read_file(path) : "";
  }
  [[nodiscard]] std::ptrdiff_t count() const {
    return std::ranges::count(text(), '\n');
  }
  /// What a killed rank's shell had started may write there yet.
  void remove_checkpoints() const {
    const fs::path folder = run() / "checkpoints";
    for (int i = 0; i < 1000 && fs::exists(folder); ++i) {
      std::error_code not_empty;
      fs::remove_all(folder, not_empty);
    }
  }
  /// Of each job, in order, its lines.
  [[nodiscard]] std::vector<std::vector<Json>> jobs() const {
    const std::string all = text();
    EXPECT_TRUE(all.empty() || all.back() == '\n') << all;
    std::vector<std::vector<Json>> found;
    std::istringstream file(all);
    for (std::string line; std::getline(file, line);) {
      const Json json = json_of(line);
      if (found.empty() || json.value("state", "") == "NEW") {
        found.emplace_back();
      }
      found.back().push_back(json);
    }
    return found;
  }
};

bool is_end(const Json& line) { return line.contains("exit_code"); }

/// Phases with their generation; ranks of one generation end in any order.
std::vector<std::string> moves(const std::vector<Json>& lines) {
  std::vector<std::string> found;
  for (const Json& line : lines) {
    if (line.contains("state")) {
      found.push_back(fmt::format("{} {}", line["state"].get<std::string>(),
                                  line["generation"].get<int>()));
    }
  }
  return found;
}

void expect_ordered(const std::vector<Json>& lines) {
  std::set<std::pair<int, int>> ended;
  double seconds = 0;
  int generation = 0;
  for (const Json& line : lines) {
    EXPECT_EQ(line["job"], lines.front()["job"]);
    EXPECT_GE(line["seconds"].get<double>(), seconds);
    EXPECT_GE(line["generation"].get<int>(), generation);
    seconds = line["seconds"];
    generation = line["generation"];
    if (line.contains("rank")) {
      EXPECT_TRUE(ended.insert({generation, line["rank"]}).second) << line;
    }
  }
}

/// Fails once, with a checkpoint, and goes well then.
constexpr const char* kFailsOnce = R"(
say joined
[ $CATENA_GENERATION = 2 ] && { say done; exit 0; }
[ $RANK = 1 ] || touch $RUN/joined-$PPID
if [ $RANK = 1 ]; then
  while [ ! -e $RUN/joined-$PPID ]; do sleep 0.01; done
  mkdir -p $RUN/checkpoints/step-000001
  touch $RUN/checkpoints/step-000001/MANIFEST.json
  kill -SEGV $$
fi
exec sleep 100)";
const std::vector<std::string> kMoves = {
    "NEW 0",        "STARTING 0", "RENDEZVOUS 1", "RUNNING 1", "STOPPING 1",
    "RESTARTING 2", "STARTING 2", "RENDEZVOUS 2", "RUNNING 2", "SUCCEEDED 2"};

TEST_F(JournalLaunchTest, TellsEveryPhaseAndEveryEndOfARank) {
  ranks_do(kFailsOnce);
  const Outcome outcome = launch({"-n", "2"});
  ASSERT_EQ(outcome.code, 0) << outcome.error;
  const auto found = jobs();
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(moves(found[0]), kMoves);
  expect_ordered(found[0]);
  EXPECT_EQ(found[0].size(), kMoves.size() + 4) << text();
  EXPECT_TRUE(is_end(found[0].back()));
  for (const Json& line : found[0]) {
    if (line.value("state", "") != "RESTARTING") continue;
    EXPECT_EQ(line["cause"]["rank"], 1);
    EXPECT_EQ(line["cause"]["signal"], SIGSEGV);
    EXPECT_EQ(line["checkpoint_step"], 1);
  }
}

TEST_F(JournalLaunchTest, ALauncherThatIsKilledAtAnyLineLeavesAWholeJournal) {
  ranks_do(kFailsOnce);
  const auto all = static_cast<std::ptrdiff_t>(kMoves.size()) + 4;
  for (std::ptrdiff_t line = 1; line < all; ++line) {
    remove_checkpoints();
    const std::ptrdiff_t before = count();
    Program program = start({"-n", "2", "--no-dashboard"});
    for (int i = 0; i < 100000 && count() < before + line; ++i) {
      std::this_thread::sleep_for(std::chrono::microseconds(300));
    }
    ::kill(program.process(), SIGKILL);
    static_cast<void>(program.wait());
  }
  remove_checkpoints();
  const Outcome outcome = launch({"-n", "2"});
  EXPECT_EQ(outcome.code, 0) << outcome.error;
  const auto found = jobs();
  ASSERT_EQ(found.size(), static_cast<std::size_t>(all));
  std::set<std::string> names;
  for (std::size_t job = 0; job < found.size(); ++job) {
    SCOPED_TRACE(job);
    expect_ordered(found[job]);
    names.insert(found[job].front()["job"].get<std::string>());
    EXPECT_GE(found[job].size(), std::min(job + 1, kMoves.size() + 4));
    auto some = kMoves;
    const auto moved = moves(found[job]);
    some.resize(std::min(some.size(), moved.size()));
    EXPECT_EQ(moved, some);
    // It may have been quicker than we were.
    EXPECT_EQ(std::ranges::count_if(found[job], is_end),
              moved.size() == kMoves.size() ? 1 : 0);
  }
  EXPECT_EQ(names.size(), found.size());
  EXPECT_EQ(moves(found.back()), kMoves);
}

}  // namespace
}  // namespace catena::launcher
