// Where all tokens go to one expert, each rank takes what `catena plan` says.

#include <sys/stat.h>

#include "tests/training/ranks_fixture.h"
#include "training/route_file.h"

namespace catena {
namespace {

class RanksMemoryTest : public RanksFixture {
 protected:
  RanksMemoryTest() { (void)write("long.txt", long_documents()); }

  /// Three steps; most of what such a rank takes are rows of experts.
  [[nodiscard]] std::string by_two(const std::string& run,
                                   const std::string& more) const {
    return by(2, 2, run,
              "--set checkpoint.every=2 --set model.hidden=128 --set "
              "model.chain.intermediate=512 " +
                  long_rows() + more);
  }
  [[nodiscard]] std::string long_rows() const {
    return fmt::format(
        "--set data.train='{}/long.txt' --set train.steps=3 --set "
        "model.chain.top_k=1 --set model.chain.routed_experts=3 --set "
        "train.batch_tokens=2048 --set train.micro_batch_tokens=2048 ",
        folder_.string());
  }

  /// Writes the routes of a run, of a smaller model, with one expert in place
  /// of all.
  void record_one_expert(const fs::path& to) const {
    const fs::path own = folder_ / "own.bin";
    ASSERT_EQ(run(by(1, 0, "own",
                     fmt::format("--set checkpoint.every=0 {} "
                                 "--record-routing '{}'",
                                 long_rows(), own.string())))
                  .code,
              0);
    const RouteFile recorded(own);
    RouteFileWriter writer(to, recorded.shape());
    RoutedStep step;
    for (const std::int64_t number : recorded.steps()) {
      recorded.read(number, step);
      std::fill(step.experts.begin(), step.experts.end(), 0);
      writer.write(step);
    }
    writer.finish();
  }

  /// What a process has in /dev/shm, as its own; 0 if it is gone. Such
  /// segments have no names any more.
  static std::int64_t shared_bytes(pid_t process) {
    std::int64_t bytes = 0;
    std::error_code gone;
    fs::directory_iterator file(fmt::format("/proc/{}/fd", process), gone), end;
    for (; !gone && file != end; file.increment(gone)) {
      const fs::path target = fs::read_symlink(file->path(), gone);
      struct stat status {};
      if (!gone && target.string().starts_with("/dev/shm/catena-") &&
          ::stat(file->path().c_str(), &status) == 0) {
        bytes += 512 * std::int64_t{status.st_blocks};
      }
    }
    return bytes;
  }

  /// Trains by two ranks; the most that each had in /dev/shm.
  std::vector<std::int64_t> train(const std::string& arguments) const {
    const pid_t parent = start(arguments);
    std::vector<std::int64_t> most(2);
    std::vector<pid_t> ranks;
    for (bool ended = false; !ended;) {
      if (ranks.size() < most.size()) ranks = children_of(parent);
      for (std::size_t r = 0; r < ranks.size() && r < most.size(); ++r) {
        most[r] = std::max(most[r], shared_bytes(ranks[r]));
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      siginfo_t said{};
      ended = ::waitid(P_PID, static_cast<id_t>(parent), &said,
                       WEXITED | WNOHANG | WNOWAIT) != 0 ||
              said.si_pid == parent;
    }
    const Outcome outcome = wait(parent);
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    return most;
  }

  /// Trains as `budget` says. Returns what each of the two ranks may take.
  double expect_planned(const std::string& run_name, double budget,
                        const std::string& more) const {
    SCOPED_TRACE(run_name);
    const std::string arguments =
        by_two(run_name, fmt::format("--set parallel.row_budget={} ", budget));
    const auto shared = train(arguments + more);
    const auto planned =
        json_of(run("plan" + arguments.substr(5) + " --json").out)
            .at("memory_bytes")
            .get<double>();
    for (const std::size_t rank : {0U, 1U}) {
      SCOPED_TRACE(rank);
      const auto said = result(rank == 0 ? run_name : run_name + "/ranks/1");
      // The plan is of the rank that holds the most experts, which is rank 0.
      const auto own = said["memory_planned_bytes"].get<double>();
      EXPECT_LE(own, planned);
      if (rank == 0) {
        EXPECT_EQ(own, planned);
      }
      EXPECT_GT(shared[rank], 0);
      const double measured = said["memory_anonymous_bytes"].get<double>() +
                              static_cast<double>(shared[rank]);
      EXPECT_LT(measured, own + tolerance(own));
      // The other one has no guest, and does not touch the room for them.
      if (rank == 0) {
        EXPECT_GT(measured, planned - tolerance(planned));
      }
    }
    return planned;
  }
  /// As in PlannedMemoryTest.
  static double tolerance(double bytes) {
    return std::max(0.05 * bytes, 16.0 * (1 << 20));
  }
  /// The most rounds after the first that a step of rank 0 took.
  [[nodiscard]] std::int64_t later_rounds(const std::string& name) const {
    std::int64_t rounds = 0;
    for (const auto& line : metrics(name)) {
      rounds = std::max(
          rounds, line.value("catena_dispatch_later_rounds", std::int64_t{0}));
    }
    return rounds;
  }
};

TEST_F(RanksMemoryTest, AllTokensToOneExpertTakeWhatIsPlanned) {
  const fs::path routes = folder_ / "one.bin";
  record_one_expert(routes);
  const std::string replay =
      fmt::format("--replay-routing '{}'", routes.string());
  const double whole = expect_planned("whole", 100, replay);
  const double cut = expect_planned("cut", 0.5, replay);
  // Or a budget that is not kept would not be seen.
  EXPECT_GT(whole, cut + 3 * tolerance(whole));
  EXPECT_EQ(later_rounds("whole"), 0);
  EXPECT_GT(later_rounds("cut"), 0);
  expect_same_run("cut", "whole");
}

}  // namespace
}  // namespace catena
