#include "launcher/preflight/machine_probe.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <set>
#include <thread>

#include "launcher/preflight/link_probe.h"
#include "launcher/preflight/prober.h"
#include "launcher/preflight/units.h"
#include "runtime/base/error.h"
#include "runtime/base/files.h"

namespace catena::launcher {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class MachineProbeTest : public ::testing::Test {
 protected:
  MachineProbeTest() {
    std::string name = (fs::temp_directory_path() / "probeXXXXXX").string();
    folder_ = ::mkdtemp(name.data());
  }
  ~MachineProbeTest() override { fs::remove_all(folder_); }

  [[nodiscard]] std::uint64_t hash(const fs::path& path) const {
    return probe_machine({.run = folder_.string(), .files = {path.string()}})
        .file_hashes.at(0);
  }

  static void write_file(const fs::path& path) { std::ofstream(path) << "x"; }

  fs::path folder_;
};

TEST_F(MachineProbeTest, SaysWhatThereIsAndLeavesNothing) {
  const MachineFacts facts = probe_machine(
      {.program = "/proc/self/exe", .run = folder_.string(), .files = {}});
  EXPECT_GT(facts.cores, 0);
  EXPECT_GT(facts.memory_bytes, 0);
  EXPECT_GT(facts.free_memory_bytes, 0);
  EXPECT_GT(facts.free_disk_bytes, 0);
  EXPECT_GT(facts.write_seconds, 0);
  EXPECT_EQ(facts.disk_error, "");
  EXPECT_NE(facts.program_hash, 0U);
  EXPECT_TRUE(fs::is_empty(folder_));
}

TEST_F(MachineProbeTest, AFolderThatIsNotThereIsSaid) {
  const MachineFacts facts =
      probe_machine({.program = "", .run = (folder_ / "none").string()});
  EXPECT_THAT(facts.disk_error, HasSubstr("No such file"));
  EXPECT_EQ(facts.program_hash, 0U);
}

TEST_F(MachineProbeTest, FilesThatDifferHaveOtherHashes) {
  const fs::path file = folder_ / "file", folder = folder_ / "data";
  std::set<std::uint64_t> seen;
  write_file_atomically(file, "a");
  EXPECT_TRUE(seen.insert(hash(file)).second);
  EXPECT_EQ(hash(file), *seen.begin());
  write_file_atomically(file, "b");
  EXPECT_TRUE(seen.insert(hash(file)).second);
  // Large ones are read in part: both ends, and their size.
  std::string large(std::size_t{9} << 20U, 'x');
  write_file_atomically(file, large);
  EXPECT_TRUE(seen.insert(hash(file)).second);
  for (const std::size_t at : {std::size_t{0}, large.size() - 1}) {
    large[at] = 'y';
    write_file_atomically(file, large);
    EXPECT_TRUE(seen.insert(hash(file)).second);
  }
  write_file_atomically(file, large + "y");
  EXPECT_TRUE(seen.insert(hash(file)).second);
  write_file_atomically(folder / "shard-0", "a");
  EXPECT_TRUE(seen.insert(hash(folder)).second);
  // Of many only some are read, and always the same.
  for (int i = 0; i < 1100; ++i) {
    write_file(folder / fmt::format("many-{}", i));
  }
  EXPECT_TRUE(seen.insert(hash(folder)).second);
  EXPECT_EQ(hash(folder), hash(folder));
  write_file(folder / "many-1100");
  EXPECT_TRUE(seen.insert(hash(folder)).second);
  fs::rename(folder / "shard-0", folder / "shard-1");
  EXPECT_TRUE(seen.insert(hash(folder)).second);
  EXPECT_EQ(hash(folder_ / "none"), 0U);
}

/// Others than root may not enter a folder of nobody's.
class AsNobody {
 public:
  AsNobody() : before_(::geteuid()) {
    constexpr uid_t kNobody = 65534;
    worked_ = before_ != 0 || ::seteuid(kNobody) == 0;
  }
  ~AsNobody() {
    if (before_ == 0) worked_ = ::seteuid(0) == 0;
  }
  AsNobody(const AsNobody&) = delete;
  AsNobody& operator=(const AsNobody&) = delete;
  [[nodiscard]] bool worked() const { return worked_; }

 private:
  uid_t before_;
  bool worked_;
};

TEST_F(MachineProbeTest, AFolderThatMayNotBeEnteredHidesNoFile) {
  const fs::path folder = folder_ / "data";
  fs::permissions(folder_, fs::perms(0755));
  for (int i = 0; i < 8; ++i) {
    write_file_atomically(folder / fmt::format("shard-{}", i), "a");
    fs::create_directory(folder / fmt::format("lost-{}", i));
    fs::permissions(folder / fmt::format("lost-{}", i), fs::perms(0));
  }
  const auto hash_as_nobody = [&] {
    const AsNobody nobody;
    EXPECT_TRUE(nobody.worked());
    return hash(folder);
  };
  std::set<std::uint64_t> seen = {0};
  EXPECT_TRUE(seen.insert(hash_as_nobody()).second);
  for (int i = 0; i < 8; ++i) {
    write_file_atomically(folder / fmt::format("shard-{}", i), "b");
    EXPECT_TRUE(seen.insert(hash_as_nobody()).second) << i;
  }
  for (int i = 0; i < 8; ++i) {
    fs::permissions(folder / fmt::format("lost-{}", i), fs::perms(0700));
  }
}

TEST_F(MachineProbeTest, AllFilesTogetherAreReadInPart) {
  constexpr std::uintmax_t kMebibyte = std::uintmax_t{1} << 20U;
  ProbeMachine probe{.run = folder_.string()};
  for (int i = 0; i < 200; ++i) {
    const fs::path file = folder_ / fmt::format("shard-{}", i);
    write_file(file);
    fs::resize_file(file, 5 * kMebibyte);
    probe.files.push_back(file.string());
  }
  const auto bytes_read = [] {
    std::ifstream counts("/proc/self/io");
    std::string name;
    std::uintmax_t bytes = 0;
    counts >> name >> bytes;
    return name == "rchar:" ? bytes : 0;
  };
  const std::uintmax_t begin = bytes_read();
  const MachineFacts facts = probe_machine(probe);
  EXPECT_LT(bytes_read() - begin, 65 * kMebibyte);
  ASSERT_EQ(facts.file_hashes.size(), 200U);
  EXPECT_NE(facts.file_hashes[0], 0U);
  // What one holds says nothing of another.
  fs::resize_file(probe.files[0], 9 * kMebibyte);
  const MachineFacts changed = probe_machine(probe);
  EXPECT_NE(changed.file_hashes[0], facts.file_hashes[0]);
  for (std::size_t i = 1; i < 200; ++i) {
    EXPECT_EQ(changed.file_hashes[i], facts.file_hashes[i]);
  }
}

TEST_F(MachineProbeTest, NoMoreFilesAreComparedThanAMessageHolds) {
  ProbeMachine probe{.run = folder_.string()};
  probe.files.assign(5000, (folder_ / "none").string());
  EXPECT_EQ(files_compared(probe), 4096U);
  EXPECT_EQ(probe_machine(probe).file_hashes.size(), 4096U);
  probe.files.assign(5000, std::string(1016, 'x'));
  EXPECT_EQ(files_compared(probe), 512U);
  probe.files.resize(3);
  EXPECT_EQ(files_compared(probe), 3U);
}

TEST_F(MachineProbeTest, CoresCompute) {
  EXPECT_GT(probe_compute().flops, 1e6);
}

TEST_F(MachineProbeTest, AProberAnswersInOrder) {
  boost::asio::io_context context;
  const auto work = boost::asio::make_work_guard(context);
  std::vector<Probed> answers;
  {
    Prober prober(context, [&](const Probed& p) { answers.push_back(p); });
    prober.ask({1, ProbeClock{}});
    prober.ask({2, ProbeMachine{.program = "", .run = folder_.string()}});
    prober.ask({3, ProbeCompute{}});
    while (answers.size() < 3) context.run_one_for(std::chrono::seconds(10));
    EXPECT_FALSE(prober.busy());
  }
  for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(answers[i].number, i + 1);
  EXPECT_TRUE(std::holds_alternative<MachineFacts>(answers[1].body));
}

// As of a disk that hangs: who opens it to read waits for a writer.
TEST_F(MachineProbeTest, AProberIsNotWaitedFor) {
  const std::string hangs = (folder_ / "hangs").string();
  ASSERT_EQ(::mkfifo(hangs.c_str(), 0600), 0);
  boost::asio::io_context context;
  bool told = false;
  {
    Prober prober(context, [&](const Probed&) { told = true; });
    prober.ask({1, ProbeMachine{.run = folder_.string(), .files = {hangs}}});
    EXPECT_TRUE(prober.busy());
  }
  int writer = -1;  // the thread ends, too
  while ((writer = ::open(hangs.c_str(), O_WRONLY | O_NONBLOCK)) < 0) {
    ASSERT_EQ(errno, ENXIO);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  ::close(writer);
  context.run_for(std::chrono::milliseconds(100));
  EXPECT_FALSE(told);
}

/// A LinkServer, and a thread on which it serves.
class Served {
 public:
  explicit Served(const std::string& address)
      : server_(context_, address, "ticket"),
        thread_([this] { context_.run(); }) {}
  ~Served() {
    context_.stop();
    thread_.join();
  }
  [[nodiscard]] std::uint16_t port() const { return server_.port(); }

 private:
  boost::asio::io_context context_;
  LinkServer server_;
  std::thread thread_;
};

TEST(LinkProbeTest, SaysHowGoodTheWayIs) {
  const Served served("127.0.0.1");
  for (int i = 0; i < 2; ++i) {
    const LinkFacts facts = probe_link({"127.0.0.1", served.port(), "ticket"});
    EXPECT_GT(facts.latency_seconds, 0);
    EXPECT_LT(facts.latency_seconds, 1);
    EXPECT_GT(facts.bytes_per_second, 1e5);
  }
}

TEST(LinkProbeTest, WhoHasAnotherTicketIsTurnedAway) {
  const Served served("127.0.0.1");
  try {
    static_cast<void>(probe_link({"127.0.0.1", served.port(), "tickeT"}));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kCommunication);
    EXPECT_THAT(error.what(), HasSubstr("the other one stops answering"));
  }
}

TEST(LinkProbeTest, StrangersMakeRoom) {
  const Served served("127.0.0.1");
  boost::asio::io_context context;
  std::vector<boost::asio::ip::tcp::socket> strangers;
  for (int i = 0; i < 40; ++i) {
    strangers.emplace_back(context).connect(
        {boost::asio::ip::make_address("127.0.0.1"), served.port()});
  }
  EXPECT_GT(probe_link({"127.0.0.1", served.port(), "ticket"}).bytes_per_second,
            0);
}

TEST(LinkProbeTest, WhoLacksDescriptorsServesAgain) {
  const Served served("127.0.0.1");
  boost::asio::io_context context;
  boost::asio::ip::tcp::socket stranger(context, boost::asio::ip::tcp::v4());
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  const int next = ::dup(0);
  ASSERT_GE(next, 0);
  ::close(next);
  const rlimit none{static_cast<rlim_t>(next), before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  boost::system::error_code error;
  stranger.connect({boost::asio::ip::make_address("127.0.0.1"), served.port()},
                   error);
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_FALSE(error) << error.message();
  EXPECT_GT(probe_link({"127.0.0.1", served.port(), "ticket"}).bytes_per_second,
            0);
}

TEST(LinkProbeTest, AWayThatIsNotThereIsSaid) {
  std::uint16_t port = 0;
  {
    const Served served("127.0.0.1");
    port = served.port();
  }
  try {
    static_cast<void>(probe_link({"127.0.0.1", port, "ticket"}));
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr(fmt::format("127.0.0.1:{}", port)));
  }
}

TEST(UnitsTest, ThreeDigits) {
  EXPECT_EQ(bytes_text(0), "0 B");
  EXPECT_EQ(bytes_text(1023), "0.999 KiB");
  EXPECT_EQ(bytes_text(std::int64_t{1536} << 20U), "1.5 GiB");
  EXPECT_EQ(flops_text(2.5e11), "250 GFLOP/s");
  EXPECT_EQ(seconds_text(0.0015), "1.5 ms");
  EXPECT_EQ(seconds_text(3600), "3600 s");
  EXPECT_EQ(speed_text(1.25e9), "10 Gbit/s");
}

}  // namespace
}  // namespace catena::launcher
