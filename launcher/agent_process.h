#pragma once

#include <string>
#include <vector>

namespace catena::launcher {

/// The process on this machine that is an agent, or that brings one about on
/// another (ssh). It is in a process group of its own, so that signals of the
/// terminal do not reach it, inherits both outputs and nothing else, and finds
/// its standard input at its end when the launcher, or this, is gone: an agent,
/// then, ends. It is to be reaped by others: Children.
class AgentProcess {
 public:
  /// `command`: a program (of PATH, if it has no slash) and its arguments;
  /// `line`: what it reads on standard input, a pipe's capacity at most.
  /// Throws: Error(kUnsupported) where it cannot be started.
  AgentProcess(const std::vector<std::string>& command,
               const std::string& line);
  ~AgentProcess();
  AgentProcess(AgentProcess&& other) noexcept;
  AgentProcess& operator=(AgentProcess&& other) noexcept;

  [[nodiscard]] int process() const { return process_; }

 private:
  void dismiss();

  int process_ = 0;
  int input_ = -1;
};

}  // namespace catena::launcher
