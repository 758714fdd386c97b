#include "training/event_file.h"

#include <gmock/gmock.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmath>

#include "tests/training/event_reader.h"

namespace catena {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::ElementsAre;

class EventFileTest : public testing::Test {
 protected:
  EventFileTest()
      : folder_(fs::path(testing::TempDir()) /
                fmt::format("events-{}-{}", ::getpid(), ++count_)) {}
  ~EventFileTest() override { fs::remove_all(folder_); }

  static void write(EventFile& file, std::int64_t step, double value) {
    const Scalar scalar{"catena_loss/train", value};
    file.write(step, {&scalar, 1});
  }
  static json record(std::int64_t step, double value) {
    return {{"step", step}, {"scalars", {{"catena_loss/train", value}}}};
  }

  static inline int count_ = 0;
  fs::path folder_;
};

// The vector of TensorFlow's own files: time 1, version "brain.Event:2".
TEST_F(EventFileTest, RecordsAreFramedAsTensorFlowDoes) {
  using std::string_literals::operator""s;
  const std::string event =
      "\x09\x00\x00\x00\x00\x00\x00\xf0\x3f\x1a\x0d"s + "brain.Event:2";
  EXPECT_EQ(framed(event), "\x18\0\0\0\0\0\0\0\xa3\x7f\x4b\x22"s + event +
                               "\x86\xbf\x57\x7a"s);
}

TEST_F(EventFileTest, ReadersFindWhatWasWritten) {
  const json version = {{"version", "brain.Event:2"}};
  {
    EventFile file(folder_, 13);
    write(file, 13, 0.5);
    write(file, 14, 0);
    const std::vector<Scalar> two = {{"a", 1}, {"b", std::nan("")}};
    file.write(1'000'000'000'000, two);
    // It can be read while it is written.
    EXPECT_THAT(events_in(event_files(folder_).at(0)),
                ElementsAre(version, json({{"start", 13}}), record(13, 0.5),
                            record(14, 0),
                            json({{"step", 1'000'000'000'000},
                                  {"scalars", {{"a", 1.0}, {"b", nullptr}}}})));
    file.restart(14);
  }
  EXPECT_EQ(events_in(event_files(folder_).at(0)).back(),
            json({{"start", 14}}));
}

TEST_F(EventFileTest, LaterFilesComeLaterByName) {
  std::vector<fs::path> made;
  for (int i = 0; i < 3; ++i) {
    const EventFile file(folder_, i);
    for (const fs::path& path : event_files(folder_)) {
      if (std::find(made.begin(), made.end(), path) == made.end()) {
        made.push_back(path);
      }
    }
    ASSERT_EQ(made.size(), static_cast<std::size_t>(i) + 1);
  }
  EXPECT_EQ(made, event_files(folder_));
}

TEST_F(EventFileTest, AFullDiskLeavesOutWholeRecords) {
  ::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  EventFile file(folder_, 1);
  const fs::path path = event_files(folder_).at(0);
  // So that what is said has room in its file.
  for (int step = 1; step <= 100; ++step) write(file, step, step);
  const std::size_t whole = events_in(path).size();
  const rlimit tight{fs::file_size(path) + 20, before.rlim_max};
  testing::internal::CaptureStderr();
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &tight), 0);
  write(file, 101, 1);
  write(file, 102, 1);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  const std::string said = testing::internal::GetCapturedStderr();
  write(file, 103, 3);
  const auto records = events_in(path);
  ASSERT_EQ(records.size(), whole + 1);
  EXPECT_EQ(records[whole - 1], record(100, 100));
  EXPECT_EQ(records[whole], record(103, 3));
  EXPECT_THAT(said, testing::HasSubstr("training goes on without"));
  EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 1) << said;
  ::signal(SIGXFSZ, SIG_DFL);
}

TEST_F(EventFileTest, WithoutAFolderThereIsAWarningAndNoFile) {
  testing::internal::CaptureStderr();
  EventFile file("/dev/null/tensorboard", 1);
  write(file, 1, 1);
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_THAT(said, testing::HasSubstr("/dev/null/tensorboard/events.out."));
  EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 1) << said;
}

}  // namespace
}  // namespace catena
