#pragma once

#include <sys/types.h>

#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "parallel/file_store.h"
#include "parallel/shared_memory/transport.h"
#include "runtime/base/error.h"
#include "tests/parallel/ranks.h"

namespace catena::testing {

/// What became of a rank.
struct Outcome {
  struct Failure {
    std::string file, message;
    int line = 0;
  };
  std::vector<Failure> failures;  ///< expectations that did not hold
  bool finished = false;          ///< the rank came to its end, and says:
  bool threw = false;
  /// Not only what another rank said before.
  bool first = false;
  ErrorKind kind = ErrorKind::kInternal;
  std::string text;
  double seconds = 0;      ///< since all began
  int signal = 0;          ///< that ended it
  bool timed_out = false;  ///< it was killed, since it took too long
};

/// Makes the transport of one rank, in its own process. `token`: letters and
/// digits that no other start has.
using MakeTransport = std::function<std::unique_ptr<Transport>(
    int rank, int size, Store& store, const std::string& token)>;

[[nodiscard]] MakeTransport over_shared_memory(
    shared_memory::Options options = {});

/// Ranks as processes of this one. Whatever is left of them goes with the
/// object. To be made while this process has one thread.
class Processes {
 public:
  using Seconds = std::chrono::duration<double>;
  using Work = std::function<void(Transport&)>;

  /// Starts them: each makes its transport, and does work(transport). What
  /// that throws is told to the others by abandon().
  Processes(int size, const Work& work,
            const MakeTransport& make = over_shared_memory());
  ~Processes();
  Processes(const Processes&) = delete;
  Processes& operator=(const Processes&) = delete;

  [[nodiscard]] int size() const { return static_cast<int>(ranks_.size()); }
  void send_signal(int rank, int signal) const;
  /// Waits for the end of a rank, and kills it at last.
  [[nodiscard]] Outcome wait(int rank, Seconds deadline = Seconds(60));
  /// Waits for all. Failed expectations of ranks fail the test, and so does a
  /// rank that does not come to its end; but `gone`, which is dead or stands
  /// still, is waited for last, and killed.
  [[nodiscard]] std::vector<Outcome> wait_for_all(int gone = -1);

  /// Where ranks can leave word for the test, and it for them.
  [[nodiscard]] FileStore& store() { return store_; }
  /// Returns when every rank has set "there/RANK".
  void meet();
  /// What of this run has a name in /dev/shm now.
  [[nodiscard]] std::vector<std::string> names() const;
  [[nodiscard]] const std::string& token() const { return token_; }

 private:
  struct Rank {
    pid_t process = -1;
    int pipe = -1;
  };
  [[noreturn]] void be_rank(int rank, int pipe, const Work& work,
                            const MakeTransport& make);

  const std::string token_;
  const std::filesystem::path folder_;
  const std::chrono::steady_clock::time_point begin_;
  FileStore store_;
  std::vector<Rank> ranks_;
};

/// Ranks as such processes. The first exception is thrown again: of those that
/// do not only repeat what another rank said, as long as there are any. Fails
/// the test when one crashes, takes more than a minute, or leaves a name in
/// /dev/shm.
[[nodiscard]] RankRunner process_ranks(std::string name, MakeTransport make);

}  // namespace catena::testing
