#include "training/combinations.h"

#include <fmt/format.h>

#include <cstdint>
#include <vector>

namespace catena {
namespace {

/// A natural number of any length, in digits of 10^9, lowest first.
class Natural {
 public:
  explicit Natural(std::uint64_t value) {
    for (; value > 0; value /= kBase) {
      digits_.push_back(static_cast<std::uint32_t>(value % kBase));
    }
  }
  Natural& operator+=(const Natural& other) {
    std::uint64_t carry = 0;
    for (std::size_t i = 0; i < other.digits_.size() || carry > 0; ++i) {
      if (i == digits_.size()) digits_.push_back(0);
      carry += digits_[i] +
               std::uint64_t{i < other.digits_.size() ? other.digits_[i] : 0U};
      digits_[i] = static_cast<std::uint32_t>(carry % kBase);
      carry /= kBase;
    }
    return *this;
  }
  [[nodiscard]] Natural operator*(const Natural& other) const {
    Natural result(0);
    result.digits_.assign(digits_.size() + other.digits_.size(), 0);
    for (std::size_t i = 0; i < digits_.size(); ++i) {
      std::uint64_t carry = 0;
      for (std::size_t j = 0; j < other.digits_.size() || carry > 0; ++j) {
        const std::uint64_t factor =
            j < other.digits_.size() ? other.digits_[j] : 0;
        carry += result.digits_[i + j] + digits_[i] * factor;
        result.digits_[i + j] = static_cast<std::uint32_t>(carry % kBase);
        carry /= kBase;
      }
    }
    while (!result.digits_.empty() && result.digits_.back() == 0) {
      result.digits_.pop_back();
    }
    return result;
  }
  [[nodiscard]] std::string text() const {
    if (digits_.empty()) return "0";
    std::string result = fmt::format("{}", digits_.back());
    for (std::size_t i = digits_.size() - 1; i-- > 0;) {
      result += fmt::format("{:09}", digits_[i]);
    }
    return result;
  }

 private:
  static constexpr std::uint64_t kBase = 1000000000;
  std::vector<std::uint32_t> digits_;
};

/// ways[k] = ways to choose k of n, for k <= most.
std::vector<Natural> choices(std::int64_t n, std::int64_t most) {
  std::vector<Natural> ways(static_cast<std::size_t>(most) + 1, Natural(0));
  ways[0] = Natural(1);
  for (std::int64_t i = 0; i < n; ++i) {
    for (auto k = static_cast<std::size_t>(most); k > 0; --k) {
      ways[k] += ways[k - 1];
    }
  }
  return ways;
}

}  // namespace

std::string expert_combinations(const ModelConfig& config) {
  const auto k = static_cast<std::size_t>(config.chain.top_k);
  const std::int64_t groups = config.router.groups;
  const auto top = static_cast<std::size_t>(config.router.top_groups);
  const std::vector<Natural> within =
      choices(config.chain.routed_experts / groups, config.chain.top_k);
  // sets[g][n]: sets of n experts that touch exactly g of the groups so far.
  std::vector<std::vector<Natural>> sets(
      top + 1, std::vector<Natural>(k + 1, Natural(0)));
  sets[0][0] = Natural(1);
  for (std::int64_t group = 0; group < groups; ++group) {
    for (std::size_t g = top; g > 0; --g) {
      for (std::size_t n = k; n > 0; --n) {
        for (std::size_t here = 1; here <= n; ++here) {
          sets[g][n] += sets[g - 1][n - here] * within[here];
        }
      }
    }
  }
  Natural once(0);
  for (std::size_t g = 0; g <= top; ++g) once += sets[g][k];
  Natural result(1);
  for (std::int64_t t = 0; t < config.chain.iterations; ++t) {
    result = result * once;
  }
  return result.text();
}

}  // namespace catena
