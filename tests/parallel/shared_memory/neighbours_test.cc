#include "parallel/shared_memory/neighbours.h"

#include <gmock/gmock.h>
#include <unistd.h>

#include <filesystem>
#include <thread>

#include "parallel/file_store.h"
#include "parallel/shared_memory/transport.h"
#include "runtime/base/error.h"

namespace catena::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class NeighboursTest : public ::testing::Test {
 protected:
  ~NeighboursTest() override { std::filesystem::remove_all(folder_); }

  /// What all of them find, which say these nodes.
  std::vector<int> find(const std::vector<std::string>& nodes) {
    std::vector<std::vector<int>> found(nodes.size());
    std::vector<std::thread> threads;
    for (std::size_t r = 0; r < nodes.size(); ++r) {
      threads.emplace_back([&, r] {
        found[r] = shared_memory::find_neighbours(
            store_, static_cast<int>(r), static_cast<int>(nodes.size()),
            {.token = token_, .node = nodes[r]});
      });
    }
    for (std::thread& thread : threads) thread.join();
    for (const auto& one : found) EXPECT_EQ(one, found[0]);
    EXPECT_THAT(shared_memory::sweep(token_), IsEmpty());
    return found[0];
  }

  const std::string token_ = fmt::format("neighbours{}", getpid());
  const std::filesystem::path folder_ =
      std::filesystem::temp_directory_path() / ("catena-" + token_);
  FileStore store_{folder_};
};

TEST_F(NeighboursTest, RanksThatSayNothingShareWhatTheySee) {
  EXPECT_THAT(find({"", "", ""}), ElementsAre(0, 0, 0));
}

TEST_F(NeighboursTest, RanksThatSayOtherNodesAreApart) {
  EXPECT_THAT(find({"a", "b/?", "a", "", "b/?"}), ElementsAre(0, 1, 0, 3, 1));
}

TEST_F(NeighboursTest, ARankThatDoesNotComeIsNamedAndNothingIsLeft) {
  try {
    static_cast<void>(shared_memory::find_neighbours(
        store_, 0, 2,
        {.token = token_, .deadline = std::chrono::milliseconds(100)}));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kTimeout);
    EXPECT_THAT(error.what(), HasSubstr("rank 0 has waited 0.1 s for rank 1"));
  }
  EXPECT_THAT(shared_memory::sweep(token_), IsEmpty());
}

}  // namespace
}  // namespace catena::testing
