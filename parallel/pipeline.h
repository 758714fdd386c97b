#pragma once

#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <span>
#include <utility>
#include <vector>

namespace catena {

/// Something under way elsewhere: an exchange between ranks. poll() moves it
/// on and says whether it is finished. An operation may be used again for
/// another exchange, under a higher ticket; those of lower ones are finished.
/// Throws from poll(): Communication or Timeout.
class Operation {
 public:
  virtual ~Operation() = default;
  [[nodiscard]] virtual bool poll(std::uint64_t ticket) = 0;
};

/// What a coroutine waits for. Borrows the operation; without one, it is ready
/// at once.
class Pending {
 public:
  Pending() = default;
  Pending(Operation& operation, std::uint64_t ticket)
      : operation_(&operation), ticket_(ticket) {}
  [[nodiscard]] bool ready() const {
    return operation_ == nullptr || operation_->poll(ticket_);
  }

 private:
  Operation* operation_ = nullptr;
  std::uint64_t ticket_ = 0;
};

/// Waits for one outside of coroutines. Gives the core to others meanwhile.
void wait(const Pending& pending);

/// Memory for the coroutine frames of one chunk: a stack, since inner tasks
/// die before outer ones. Grows while the deepest nesting is still unknown;
/// allocates nothing afterwards.
class FrameMemory {
 public:
  [[nodiscard]] void* allocate(std::size_t bytes);
  void release(std::size_t bytes);

 private:
  struct Block {
    std::unique_ptr<std::byte[]> data;
    std::size_t bytes, used;
  };
  std::vector<Block> blocks_;
  std::size_t top_ = 0;  // block in use
};

/// A coroutine that carries a chunk through some work. Lazy: runs when it is
/// awaited, or given to Pipeline::run. Its frame comes from the FrameMemory
/// among its arguments (an argument that is, or derives from, FrameMemory).
///
///   Task forward(Chunk& chunk, ...) {
///     Pending sent = dispatch(...);      // issue
///     shared.forward(...);               // compute meanwhile
///     co_await sent;                     // other chunks run here
///     co_await inner.forward(chunk, ...);
///   }
class [[nodiscard]] Task {
 public:
  struct promise_type;
  using Handle = std::coroutine_handle<promise_type>;

  Task() = default;
  explicit Task(Handle handle) : handle_(handle) {}
  Task(Task&& other) noexcept : handle_(std::exchange(other.handle_, {})) {}
  Task& operator=(Task&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Task() {
    if (handle_) handle_.destroy();
  }

 private:
  friend class Pipeline;
  friend struct promise_type;
  Handle handle_;
};

/// Runs the tasks of all chunks, in strict rotation: a chunk runs until it
/// awaits a Pending, then the next chunk runs, ready or not. So the order in
/// which communication is issued depends on the code alone and is the same on
/// every rank; only how long a turn waits depends on time.
/// Thread rule: one thread.
class Pipeline {
 public:
  /// Returns when every task has ended. The first exception of a task is
  /// rethrown; the tasks that had not ended are left suspended, to be
  /// destroyed by their owner.
  void run(std::span<Task> tasks);

  /// Where a chunk stands.
  struct Strand {
    std::coroutine_handle<> resume;
    Pending waiting;
  };

 private:
  std::vector<Strand> strands_;
};

struct Task::promise_type {
  Pipeline::Strand* strand = nullptr;
  std::coroutine_handle<> parent;
  std::exception_ptr error;

  Task get_return_object() { return Task(Handle::from_promise(*this)); }
  std::suspend_always initial_suspend() noexcept { return {}; }
  struct Final {
    bool await_ready() noexcept { return false; }
    std::coroutine_handle<> await_suspend(Handle handle) noexcept {
      const std::coroutine_handle<> parent = handle.promise().parent;
      return parent ? parent : std::noop_coroutine();
    }
    void await_resume() noexcept {}
  };
  Final final_suspend() noexcept { return {}; }
  void return_void() {}
  void unhandled_exception() { error = std::current_exception(); }

  struct Turn {
    Pipeline::Strand* strand;
    Pending pending;
    bool await_ready() noexcept { return false; }
    void await_suspend(std::coroutine_handle<> handle) noexcept {
      strand->resume = handle;
      strand->waiting = pending;
    }
    void await_resume() noexcept {}
  };
  Turn await_transform(Pending pending) { return {strand, pending}; }

  struct Call {
    Handle inner;
    bool await_ready() noexcept { return false; }
    std::coroutine_handle<> await_suspend(Handle outer) noexcept {
      inner.promise().parent = outer;
      inner.promise().strand = outer.promise().strand;
      return inner;
    }
    void await_resume() {
      if (inner.promise().error) {
        std::rethrow_exception(std::exchange(inner.promise().error, {}));
      }
    }
  };
  Call await_transform(const Task& task) { return {task.handle_}; }

  template <class... Args>
  static void* operator new(std::size_t bytes, Args&... args) {
    FrameMemory* memory = nullptr;
    ((memory = memory != nullptr ? memory : find(&args)), ...);
    return allocate_frame(memory, bytes);
  }
  static void operator delete(void* frame, std::size_t bytes) {
    release_frame(frame, bytes);
  }

 private:
  /// From the heap where memory is null.
  static void* allocate_frame(FrameMemory* memory, std::size_t bytes);
  static void release_frame(void* frame, std::size_t bytes);
  static FrameMemory* find(FrameMemory* memory) { return memory; }
  static FrameMemory* find(const void*) { return nullptr; }
};

}  // namespace catena
