#pragma once

#include <filesystem>
#include <string>

namespace catena::launcher {

/// A folder that looks like a run's, gone with the object.
class RunFiles {
 public:
  RunFiles();
  ~RunFiles();
  RunFiles(const RunFiles&) = delete;
  RunFiles& operator=(const RunFiles&) = delete;

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  void append(const std::string& name, const std::string& text) const;
  void replace(const std::string& name, const std::string& text) const;

  /// Lines as the trainer writes them, with their newline. Rank `rank` waits
  /// 0.125 s of its second, and computes 0.5 (rank + 1) s.
  [[nodiscard]] static std::string step(int number, int rank = 0);
  [[nodiscard]] static std::string validation(int step, double loss);
  /// Two layers, two iterations, three experts.
  [[nodiscard]] static std::string routing(int step);
  /// job.json of two ranks that were started again once.
  [[nodiscard]] static std::string job(const std::string& state);

  /// All of it: two ranks, ten steps, a validation, a checkpoint, a skip.
  void write_run() const;

 private:
  std::filesystem::path path_;
};

}  // namespace catena::launcher
