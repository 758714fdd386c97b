#pragma once

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

namespace catena::data {

/// Runs  consume(work(produce()))  for every item until produce() returns
/// nothing: work in parallel, the other two one at a time and in order, so the
/// outcome does not depend on the number of threads.
///
///   produce  () -> std::optional<Item>
///   work     (Item) -> Result, called from several threads at once
///   consume  (Result)
/// At most `threads` items are alive. `threads` >= 1.
/// Throws: what the first failing item, in order, threw; later items are
/// dropped.
template <class Produce, class Work, class Consume>
void ordered_pipeline(int threads, Produce produce, Work work,
                      Consume consume) {
  using Item = typename decltype(produce())::value_type;
  using Result = decltype(work(std::declval<Item>()));
  std::mutex mutex;
  std::condition_variable turn_changed;
  // All guarded by mutex.
  std::int64_t produced = 0, turn = 0;
  bool exhausted = false;
  std::exception_ptr error;

  const auto run = [&] {
    std::unique_lock lock(mutex);
    while (!exhausted && !error) {
      std::optional<Item> item;
      std::optional<Result> result;
      std::exception_ptr failure;
      const std::int64_t mine = produced++;
      try {
        item = produce();
        exhausted = !item;
      } catch (...) {
        exhausted = true;
        failure = std::current_exception();
      }
      if (item) {
        lock.unlock();
        try {
          result = work(std::move(*item));
        } catch (...) {
          failure = std::current_exception();
        }
        lock.lock();
      }
      turn_changed.wait(lock, [&] { return turn == mine; });
      if (!failure && !error && result) {
        try {
          consume(std::move(*result));
        } catch (...) {
          failure = std::current_exception();
        }
      }
      if (failure && !error) error = failure;
      ++turn;
      turn_changed.notify_all();
    }
  };
  std::vector<std::thread> others;
  for (int i = 1; i < threads; ++i) others.emplace_back(run);
  run();
  for (std::thread& thread : others) thread.join();
  if (error) std::rethrow_exception(error);
}

}  // namespace catena::data
