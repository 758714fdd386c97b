#include "runtime/base/hash.h"

#include <fmt/format.h>
#include <xxhash.h>

#include "runtime/base/error.h"

namespace catena {

std::uint64_t hash64(std::span<const std::byte> bytes) {
  return XXH3_64bits(bytes.data(), bytes.size());
}

std::uint64_t hash64(std::string_view text) {
  return XXH3_64bits(text.data(), text.size());
}

struct Hasher64::State {
  XXH3_state_t* xxh3 = XXH3_createState();
  State() {
    CATENA_CHECK(xxh3 != nullptr, "[hash] no memory for a state");
    XXH3_64bits_reset(xxh3);
  }
  ~State() { XXH3_freeState(xxh3); }
  State(const State&) = delete;
  State& operator=(const State&) = delete;
};

Hasher64::Hasher64() : state_(std::make_unique<State>()) {}
Hasher64::~Hasher64() = default;

void Hasher64::add(std::span<const std::byte> bytes) {
  XXH3_64bits_update(state_->xxh3, bytes.data(), bytes.size());
}

std::uint64_t Hasher64::value() const {
  return XXH3_64bits_digest(state_->xxh3);
}

std::string hexadecimal(std::uint64_t hash) {
  return fmt::format("{:016x}", hash);
}

}  // namespace catena
