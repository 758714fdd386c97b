#include "training/failure.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <new>

#include "launcher/contract.h"

namespace catena {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

template <class Thrown>
Failed explained(const Thrown& thrown) {
  return explain(std::make_exception_ptr(thrown));
}

TEST(FailureTest, EveryExceptionHasItsCode) {
  EXPECT_EQ(explained(Error(ErrorKind::kData, "x")).code, kExitData);
  EXPECT_EQ(explained(NotAssembled(ErrorKind::kTimeout, "x")).code,
            kExitNotAssembled);
  EXPECT_EQ(explained(std::bad_alloc()).code, kExitDoesNotFit);
  const Failed bug = explained(std::logic_error("oops"));
  EXPECT_EQ(bug.code, kExitInternal);
  EXPECT_EQ(bug.text, "internal: oops; please report this");
}

TEST(FailureTest, WhatTheSystemRefusesIsNoBug) {
  const auto denied = std::make_error_code(std::errc::permission_denied);
  const Failed read =
      explained(fs::filesystem_error("cannot list", "data/secret", denied));
  EXPECT_EQ(read.code, kExitStorage);
  EXPECT_EQ(read.text, "data/secret: Permission denied");
  const Failed renamed =
      explained(fs::filesystem_error("cannot rename", "a", "b", denied));
  EXPECT_EQ(renamed.code, kExitStorage);
  EXPECT_EQ(renamed.text, "a, b: Permission denied");
  const Failed pathless =
      explained(fs::filesystem_error("cannot advance", denied));
  EXPECT_EQ(pathless.code, kExitStorage);
  EXPECT_THAT(pathless.text, HasSubstr("cannot advance"));
}

// A launcher starts ranks again for it.
TEST(FailureTest, ADeviceThatFailsIsNoRefusal) {
  for (const std::errc error :
       {std::errc::io_error, std::errc::timed_out, std::errc::no_such_device}) {
    const Failed failed = explained(fs::filesystem_error(
        "cannot list", "data", std::make_error_code(error)));
    EXPECT_EQ(failed.code, kExitInternal);
    EXPECT_THAT(failed.text, testing::StartsWith("data: "));
  }
}

// As read_file() tells the two apart.
TEST(FailureTest, WhatIsNotThereIsMissingInput) {
  try {
    static_cast<void>(fs::directory_iterator("/nothing/here"));
    FAIL() << "no error";
  } catch (const fs::filesystem_error&) {
    const Failed missing = explain(std::current_exception());
    EXPECT_EQ(missing.code, kExitData);
    EXPECT_EQ(missing.text, "/nothing/here: No such file or directory");
  }
}

}  // namespace
}  // namespace catena
