#pragma once

#include <cstdint>
#include <memory>

namespace catena::bench {

/// MPI_Alltoallv between two ranks, for comparison.
class MpiExchange {
 public:
  /// Null where the program was not started by mpirun, or built without MPI.
  [[nodiscard]] static std::unique_ptr<MpiExchange> start();
  virtual ~MpiExchange() = default;

  [[nodiscard]] virtual int rank() const = 0;
  [[nodiscard]] virtual int size() const = 0;
  /// Sends the other rank so many bytes, and receives so many.
  virtual void exchange(const void* send, std::int64_t send_bytes,
                        void* receive, std::int64_t receive_bytes) = 0;
};

}  // namespace catena::bench
