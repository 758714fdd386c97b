#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "training/config.h"
#include "training/data/sampler.h"
#include "training/route_trace.h"

namespace catena {

/// How ranks are arranged in one run: data * expert of them.
struct Layout {
  int data = 1, expert = 1;
  std::int64_t chunks = 1;
  [[nodiscard]] std::string name() const;  ///< "2x4"
};
/// "2x4": data x expert. Throws: Usage.
[[nodiscard]] Layout parse_layout(const std::string& text);

/// What some steps of one layout gave.
struct LayoutRun {
  std::vector<double> losses, norms;
  /// Of the first step, summed over ranks; by checkpoint name.
  std::map<std::string, std::vector<double>> gradients;
  std::map<std::string, std::vector<double>> weights;  ///< after the last step
  RouteTrace routes;
};

/// Takes the steps of `batches` under `layout`, from the seed's weights, by
/// ranks that are threads of this process. Replays the routes of `replay`
/// unless it is null.
/// Throws: Config where the layout does not fit the model; Internal where
/// replicas of a weight differ.
[[nodiscard]] LayoutRun run_layout(const Config& config, Precision precision,
                                   const Layout& layout,
                                   const std::vector<data::Batch>& batches,
                                   RouteTrace* replay);

/// How far one run is from another: the largest of all steps or tensors.
struct Deviation {
  double loss = 0, norm = 0;         ///< relative
  double gradient = 0, weights = 0;  ///< ||a - b|| / ||b||, of the worst
  std::string worst_gradient, worst_weights;
  RouteTrace::Flips flips;
};
[[nodiscard]] Deviation deviation(const LayoutRun& run,
                                  const LayoutRun& reference);

/// What layouts may deviate by.
struct Tolerance {
  double loss, norm, gradient, weights;
};

/// One comparison of `catena verify`.
struct VerifyRow {
  std::string layout, mode;  ///< "2x4"; "float64", "float32 replayed", ...
  Deviation found;
  Tolerance allowed;
  bool null = false;  ///< the null experiment: it bounds nothing
  [[nodiscard]] bool passed() const;
};

/// Files of routes for verify_layouts.
struct VerifyRoutes {
  /// Gets those that the first layout chose in float32, step by step.
  std::optional<std::filesystem::path> record;
  /// Followed by all layouts, the first one too, in float64 and in float32;
  /// none chooses its own then.
  std::optional<std::filesystem::path> replay;
};

/// Compares every layout with the first, in float64, in float32 with the
/// first one's routes, and in float32 with its own. Before that, the null
/// experiment: the first layout with its sums in another order (rows computed
/// by more chunks or, where they are computed one at a time, two at a time).
/// `shown` is called with every row as soon as it is known.
/// Returns whether all passed.
/// Throws: Error(kData) where routes to follow are not of this model and these
/// batches, which are the steps from 1 on.
bool verify_layouts(const Config& config, const std::vector<Layout>& layouts,
                    const std::vector<data::Batch>& batches,
                    const VerifyRoutes& routes,
                    const std::function<void(const VerifyRow&)>& shown);

}  // namespace catena
