#include "training/stop.h"

#include <unistd.h>

#include <csignal>

#include "training/control_line.h"

namespace catena {
namespace {

volatile std::sig_atomic_t requested = 0;

volatile std::sig_atomic_t save_requested = 0;

bool launched = false;

void on_signal(int signal) {
  if (requested != 0) {
    if (launched) return;
    ::_exit(128 + signal);
  }
  requested = signal;
  static constexpr char kSaid[] =
      "\nstopping after this step; once more ends at once\n";
  static constexpr char kSaidLaunched[] = "\nstopping after this step\n";
  static_cast<void>(
      launched
          ? !::write(STDERR_FILENO, kSaidLaunched, sizeof kSaidLaunched - 1)
          : !::write(STDERR_FILENO, kSaid, sizeof kSaid - 1));
}

}  // namespace

void install_stop_signals() {
  launched = control_line::is_open();
  struct sigaction action {};
  action.sa_handler = on_signal;
  ::sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
  ::sigaction(SIGALRM, &action, nullptr);
}

void restore_stop_signals() {
  std::signal(SIGINT, SIG_DFL);
  std::signal(SIGTERM, SIG_DFL);
  std::signal(SIGALRM, SIG_DFL);
}

void install_save_signal() {
  struct sigaction action {};
  action.sa_handler = [](int) { save_requested = 1; };
  ::sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;
  ::sigaction(SIGUSR1, &action, nullptr);
}

bool take_save_signal() {
  if (save_requested == 0) return false;
  save_requested = 0;
  return true;
}

int stop_signal() { return requested; }

}  // namespace catena
