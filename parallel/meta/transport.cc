#include "parallel/meta/transport.h"

#include <new>

namespace catena {
namespace {

constexpr std::size_t kAlignment = 64;

class MetaTransport final : public Transport {
 public:
  MetaTransport(int rank, int size) : rank_(rank), size_(size) {}

  [[nodiscard]] int rank() const override { return rank_; }
  [[nodiscard]] int size() const override { return size_; }
  [[nodiscard]] std::string_view description() const override {
    return "meta: messages without content";
  }
  [[nodiscard]] bool carries() const override { return false; }
  void send(int, int, const void*, std::int64_t, std::uint64_t,
            std::int64_t&) override {}
  void receive(int, int, void*, std::int64_t, std::uint64_t,
               std::int64_t&) override {}
  void progress() override {}
  void abandon(std::string_view) noexcept override {}
  [[nodiscard]] void* allocate(std::size_t bytes) override {
    return ::operator new(bytes, std::align_val_t(kAlignment));
  }
  void release(void* data, std::size_t bytes) noexcept override {
    ::operator delete(data, bytes, std::align_val_t(kAlignment));
  }

 private:
  int rank_, size_;
};

}  // namespace

std::unique_ptr<Transport> make_meta_transport(int rank, int size) {
  return std::make_unique<MetaTransport>(rank, size);
}

}  // namespace catena
