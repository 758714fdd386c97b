#include "runtime/cpu/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "runtime/base/error.h"
#include "runtime/base/machine.h"

namespace catena::cpu {
namespace {

// Long enough for the gap between two kernels of a step, short enough to
// leave a busy core to others.
constexpr auto kSpin = std::chrono::microseconds(40);

// A message crosses a wire in some 10 us, and many messages are under way: to
// look more often costs more than it brings.
constexpr auto kBetweenTurns = std::chrono::microseconds(50);

// The state of a pool in one word, so that sleepers wait on all of it: how
// many workers are inside a job, whether the job may still be entered, and
// the job's number above.
constexpr std::uint32_t kInside = 0xff;
constexpr std::uint32_t kOpen = 0x100;
constexpr std::uint32_t kJob = 0x200;

constexpr std::uint32_t job_number(std::uint32_t state) {
  return state & ~(kJob - 1);
}

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  std::this_thread::yield();
#endif
}

/// Returns once the word is no longer `old`; spins for a while, then sleeps.
void wait_for_change(const std::atomic<std::uint32_t>& word,
                     std::uint32_t old) {
  const auto end = std::chrono::steady_clock::now() + kSpin;
  do {
    for (int i = 0; i < 32; ++i) {
      if (word.load(std::memory_order_acquire) != old) return;
      relax();
    }
  } while (std::chrono::steady_clock::now() < end);
  word.wait(old, std::memory_order_acquire);
}

}  // namespace

struct ThreadPool::Implementation {
  alignas(64) std::atomic<std::uint32_t> state{0};
  alignas(64) std::atomic<std::int64_t> next{0};
  // Written while no worker is inside, read by those inside.
  alignas(64) Call call{};
  std::int64_t count = 0;
  std::atomic<bool> stopping{false};
  std::mutex mutex;
  std::exception_ptr error;  // guarded by mutex
  std::vector<std::thread> workers;
  // Of the calling thread.
  Background* background = nullptr;
  std::chrono::steady_clock::time_point next_turn;

  void turn() {
    if (background == nullptr || std::chrono::steady_clock::now() < next_turn) {
      return;
    }
    background->advance();
    next_turn = std::chrono::steady_clock::now() + kBetweenTurns;
  }

  void work(int worker) noexcept {
    try {
      for (;;) {
        const std::int64_t i = next.fetch_add(1, std::memory_order_relaxed);
        if (i >= count) return;
        call.invoke(call.object, i, worker);
        if (worker == 0) turn();
      }
    } catch (...) {
      next.store(count, std::memory_order_relaxed);
      const std::lock_guard lock(mutex);
      if (!error) error = std::current_exception();
    }
  }

  void worker_loop(int worker) {
    std::uint32_t done = 0;
    while (!stopping.load(std::memory_order_acquire)) {
      std::uint32_t now = state.load(std::memory_order_acquire);
      if ((now & kOpen) == 0 || job_number(now) == done) {
        if (!stopping.load(std::memory_order_acquire)) {
          wait_for_change(state, now);
        }
        continue;
      }
      if (!state.compare_exchange_weak(now, now + 1,
                                       std::memory_order_acq_rel)) {
        continue;
      }
      done = job_number(now);
      work(worker);
      const std::uint32_t left =
          state.fetch_sub(1, std::memory_order_acq_rel) - 1;
      if ((left & (kInside | kOpen)) == 0) state.notify_all();
    }
  }

  // Workers that have not entered by now are too late; those inside are
  // waited for.
  void close() {
    std::uint32_t now =
        state.fetch_and(~kOpen, std::memory_order_acq_rel) & ~kOpen;
    while ((now & kInside) != 0) {
      wait_for_change(state, now);
      now = state.load(std::memory_order_acquire);
    }
  }
};

ThreadPool::ThreadPool(int threads)
    : implementation_(std::make_unique<Implementation>()) {
  constexpr int kMost = static_cast<int>(kInside);
  CATENA_CHECK(threads >= 0 && threads <= kMost,
               "[threads] {} threads, expected 0 (one per core) to {}", threads,
               kMost);
  if (threads == 0) threads = std::min(available_cores(), kMost);
  Implementation& pool = *implementation_;
  for (int worker = 1; worker < threads; ++worker) {
    pool.workers.emplace_back([&pool, worker] { pool.worker_loop(worker); });
  }
}

ThreadPool::~ThreadPool() {
  Implementation& pool = *implementation_;
  pool.stopping.store(true, std::memory_order_release);
  pool.state.fetch_add(kJob, std::memory_order_acq_rel);
  pool.state.notify_all();
  for (std::thread& worker : pool.workers) worker.join();
}

void ThreadPool::set_background(Background* work) {
  implementation_->background = work;
}

int ThreadPool::threads() const {
  return static_cast<int>(implementation_->workers.size()) + 1;
}

void ThreadPool::run_pieces(std::int64_t count, Call call) {
  Implementation& pool = *implementation_;
  if (count <= 1 || pool.workers.empty()) {
    for (std::int64_t i = 0; i < count; ++i) {
      call.invoke(call.object, i, 0);
      pool.turn();
    }
    return;
  }
  pool.call = call;
  pool.count = count;
  pool.next.store(0, std::memory_order_relaxed);
  pool.state.fetch_add(kJob + kOpen, std::memory_order_acq_rel);
  pool.state.notify_all();
  pool.work(0);
  pool.close();
  if (pool.error) std::rethrow_exception(std::exchange(pool.error, nullptr));
}

}  // namespace catena::cpu
