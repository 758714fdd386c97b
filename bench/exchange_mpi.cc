#include "bench/exchange_mpi.h"

#include <mpi.h>

#include <cstdlib>

namespace catena::bench {
namespace {

class OpenMpi final : public MpiExchange {
 public:
  OpenMpi() {
    MPI_Init(nullptr, nullptr);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
    MPI_Comm_size(MPI_COMM_WORLD, &size_);
  }
  ~OpenMpi() override { MPI_Finalize(); }

  [[nodiscard]] int rank() const override { return rank_; }
  [[nodiscard]] int size() const override { return size_; }
  void exchange(const void* send, std::int64_t send_bytes, void* receive,
                std::int64_t receive_bytes) override {
    int out[2] = {0, 0}, in[2] = {0, 0};
    out[1 - rank_] = static_cast<int>(send_bytes);
    in[1 - rank_] = static_cast<int>(receive_bytes);
    const int begins[2] = {0, 0};
    MPI_Alltoallv(send, out, begins, MPI_BYTE, receive, in, begins, MPI_BYTE,
                  MPI_COMM_WORLD);
  }

 private:
  int rank_ = 0, size_ = 1;
};

}  // namespace

std::unique_ptr<MpiExchange> MpiExchange::start() {
  if (std::getenv("OMPI_COMM_WORLD_RANK") == nullptr &&
      std::getenv("PMI_RANK") == nullptr) {
    return nullptr;
  }
  return std::make_unique<OpenMpi>();
}

}  // namespace catena::bench
