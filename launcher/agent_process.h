#pragma once

#include <string>
#include <vector>

namespace catena::launcher {

/// The process on this machine that is an agent, or that brings one about on
/// another (ssh). It is in a process group of its own, so that signals of the
/// terminal do not reach it, inherits both outputs and nothing else, and finds
/// its standard input at its end when the launcher is gone.
class AgentProcess {
 public:
  /// `command`: a program (of PATH, if it has no slash) and its arguments;
  /// `line`: what it reads on standard input, a pipe's capacity at most.
  /// Throws: Error(kUnsupported) where it cannot be started.
  AgentProcess(const std::vector<std::string>& command,
               const std::string& line);
  /// Kills it, if it was not reaped.
  ~AgentProcess();
  AgentProcess(AgentProcess&& other) noexcept;
  AgentProcess& operator=(AgentProcess&& other) noexcept;

  /// Its standard input ends: an agent, then, ends too.
  void dismiss();
  /// Whether it has ended; then it has been reaped, and `how` says how.
  [[nodiscard]] bool reap(std::string& how);

 private:
  int process_ = 0;
  int input_ = -1;
};

}  // namespace catena::launcher
