#include "runtime/base/background_writer.h"

#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>
#include <utility>

#include "runtime/base/signals_held.h"

namespace catena {
namespace {

/// What nobody can read any more is lost.
void write_all(int descriptor, std::string_view text) {
  while (!text.empty()) {
    const ssize_t count = ::write(descriptor, text.data(), text.size());
    if (count >= 0) {
      text.remove_prefix(static_cast<std::size_t>(count));
    } else if (errno == EAGAIN) {
      // Whoever shares it has made it so.
      pollfd ready{descriptor, POLLOUT, 0};
      ::poll(&ready, 1, -1);
    } else if (errno != EINTR) {
      return;
    }
  }
}

}  // namespace

struct BackgroundWriter::Shared {
  std::mutex mutex;
  std::condition_variable changed;
  std::string waiting;      // guarded by mutex
  std::size_t writing = 0;  // guarded by mutex; bytes
  bool closed = false;      // guarded by mutex

  void run(int descriptor) {
    std::unique_lock lock(mutex);
    for (;;) {
      changed.wait(lock, [this] { return closed || !waiting.empty(); });
      if (waiting.empty()) return;
      const std::string text = std::exchange(waiting, {});
      writing = text.size();
      lock.unlock();
      write_all(descriptor, text);
      lock.lock();
      writing = 0;
      changed.notify_all();
    }
  }
};

BackgroundWriter::BackgroundWriter(int descriptor)
    : shared_(std::make_shared<Shared>()) {
  const SignalsHeld held;
  std::thread([shared = shared_, descriptor] {
    shared->run(descriptor);
  }).detach();
}

BackgroundWriter::~BackgroundWriter() {
  std::unique_lock lock(shared_->mutex);
  shared_->closed = true;
  shared_->changed.notify_all();
  shared_->changed.wait_for(lock, kPatience, [this] {
    return shared_->waiting.empty() && shared_->writing == 0;
  });
}

bool BackgroundWriter::write(std::string_view text) {
  const std::lock_guard lock(shared_->mutex);
  const std::size_t before = shared_->waiting.size() + shared_->writing;
  if (before + text.size() > kMostBytes) return false;
  shared_->waiting += text;
  shared_->changed.notify_all();
  return true;
}

}  // namespace catena
