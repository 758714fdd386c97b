#pragma once

#include <sys/types.h>

#include <chrono>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "parallel/file_store.h"
#include "parallel/shared_memory/transport.h"
#include "runtime/base/error.h"

namespace catena::testing {

/// What became of a rank.
struct Outcome {
  struct Failure {
    std::string file, message;
    int line = 0;
  };
  std::vector<Failure> failures;  ///< expectations that did not hold
  bool finished = false;          ///< the rank came to its end, and says:
  bool threw = false, first = false;
  ErrorKind kind = ErrorKind::kInternal;
  std::string text;
  int signal = 0;          ///< that ended it
  bool timed_out = false;  ///< it was killed, since it took too long
};

/// Ranks as processes of this one, on shared memory. Whatever is left of them
/// goes with the object.
class Processes {
 public:
  using Seconds = std::chrono::duration<double>;
  using Work = std::function<void(Transport&)>;

  /// Starts them: each joins, and does work(transport).
  Processes(int size, const Work& work, shared_memory::Options options = {});
  ~Processes();
  Processes(const Processes&) = delete;
  Processes& operator=(const Processes&) = delete;

  [[nodiscard]] int size() const { return static_cast<int>(ranks_.size()); }
  void send_signal(int rank, int signal) const;
  /// Waits for the end of a rank, and kills it at last.
  [[nodiscard]] Outcome wait(int rank, Seconds deadline = Seconds(60));
  /// Waits for all. Failed expectations of ranks fail the test, and so does a
  /// rank that does not come to its end, but for `killed`.
  [[nodiscard]] std::vector<Outcome> wait_for_all(int killed = -1);

  /// Where ranks can leave word for the test, and it for them.
  [[nodiscard]] FileStore& store() { return store_; }
  /// Returns when every rank has set "there/RANK".
  void meet();
  /// What of this run has a name in /dev/shm now.
  [[nodiscard]] std::vector<std::string> names() const;
  [[nodiscard]] const std::string& token() const { return options_.token; }

 private:
  struct Rank {
    pid_t process = -1;
    int pipe = -1;
  };
  [[noreturn]] void be_rank(int rank, int pipe, const Work& work);

  shared_memory::Options options_;
  std::filesystem::path folder_;
  FileStore store_;
  std::vector<Rank> ranks_;
};

}  // namespace catena::testing
