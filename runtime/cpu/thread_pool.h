#pragma once

#include <cstdint>
#include <memory>

#include "runtime/background.h"

namespace catena::cpu {

/// The workers of one rank. The calling thread works too, so `threads` = 1
/// starts none. Work is cut into `count` numbered pieces by the caller, in
/// such a way that results do not depend on the number of threads.
/// Thread rule: run() from one thread at a time, not from inside a piece.
class ThreadPool {
 public:
  /// threads >= 1; 0 means one per core that this process may use.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  [[nodiscard]] int threads() const;

  /// What the calling thread does between pieces, every 50 us or so; null:
  /// nothing. Borrowed. What it throws is as if a piece had thrown it.
  void set_background(Background* work);

  /// Calls piece(i, worker) for every i in [0, count), each once, in any
  /// order, and returns when all are done; worker is in [0, threads()).
  /// An exception thrown by a piece is rethrown here, the first one seen;
  /// pieces not yet begun are then left out.
  template <class Piece>
  void run(std::int64_t count, const Piece& piece) {
    run_pieces(count,
               {&piece, [](const void* object, std::int64_t index, int worker) {
                  (*static_cast<const Piece*>(object))(index, worker);
                }});
  }

 private:
  // A borrowed callable: std::function would allocate.
  struct Call {
    const void* object;
    void (*invoke)(const void*, std::int64_t, int);
  };
  void run_pieces(std::int64_t count, Call call);

  struct Implementation;
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace catena::cpu
