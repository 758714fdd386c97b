#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace catena {

/// The collectives of communicator.h.
enum class Collective : std::uint8_t {
  kAllToAllV,
  kAllGatherV,
  kReduceScatter,
  kAllReduce,
  kBroadcast,
  kGatherV,
  kBarrier,
};

/// What a collective is for.
enum class Phase : std::uint8_t {
  kControl,  ///< agreement between steps: sizes, statistics, checkpoints
  kPlan,     ///< how many rows go where
  kDispatch,
  kCombine,
  kCombineGradient,
  kDispatchGradient,
  kGradients,   ///< sums of weight gradients over replicas
  kParameters,  ///< new weights from their owners
};

inline constexpr std::size_t kPhaseCount = 8;
/// "dispatch gradient".
[[nodiscard]] std::string_view name(Phase phase);

/// Says of a collective what it is and where in the model it stands, so that
/// an error can, and so that two ranks notice when they are in different
/// ones. -1: not inside such a thing.
struct Tag {
  Phase phase = Phase::kControl;
  std::int16_t layer = -1, iteration = -1, chunk = -1;

  /// "dispatch, layer 2, iteration 1, chunk 0".
  [[nodiscard]] std::string text() const;
};

/// Both in one number, as messages carry it.
[[nodiscard]] std::uint64_t packed(Collective collective, const Tag& tag);
/// "all_to_all_v (dispatch, layer 2, iteration 1, chunk 0)".
[[nodiscard]] std::string text_of(std::uint64_t packed);
/// The last text_of() in what is said of an exchange; "": there is none.
[[nodiscard]] std::string_view exchange_in(std::string_view text);

}  // namespace catena
