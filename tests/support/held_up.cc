// A library for LD_PRELOAD: a program that comes no further, and answers
// signals all the same. At SIGRTMIN the thread that takes it, the first one
// where it can, sleeps where it is, for good; at SIGRTMIN + 1 it keeps its core
// busy. Its stack still tells what it was at.

#include <signal.h>
#include <unistd.h>

#include <atomic>

namespace {

[[noreturn]] void sleep_on(int) {
  for (;;) ::pause();
}

[[noreturn]] void spin_on(int) {
  for (std::atomic<bool> over = false;;) static_cast<void>(over.load());
}

[[gnu::constructor]] void wait_for_signals() {
  struct sigaction action {};
  ::sigemptyset(&action.sa_mask);
  action.sa_handler = sleep_on;
  ::sigaction(SIGRTMIN, &action, nullptr);
  action.sa_handler = spin_on;
  ::sigaction(SIGRTMIN + 1, &action, nullptr);
}

}  // namespace
