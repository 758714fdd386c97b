#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace catena::launcher {

/// What a finished program left.
struct Outcome {
  int code = 0;    ///< exit code; 0 if a signal ended it
  int signal = 0;  ///< 0 if it left by itself
  std::string output, error;
};

/// A program started with `arguments` (its name first), standard input empty
/// and both outputs caught, in an environment that is ours but for
/// `environment` ("NAME=VALUE" sets, "NAME" removes).
class Program {
 public:
  Program(const std::filesystem::path& path,
          const std::vector<std::string>& arguments,
          const std::vector<std::string>& environment);
  ~Program();
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  [[nodiscard]] int process() const { return process_; }
  [[nodiscard]] Outcome wait();

 private:
  std::filesystem::path folder_;
  int process_ = -1;
};

}  // namespace catena::launcher
