#pragma once

#include <memory>
#include <optional>

#include "layers/chunk.h"
#include "training/data/sampler.h"
#include "training/route_file.h"
#include "training/step_range.h"

namespace catena {

/// Files of routes that a run writes and follows.
struct RoutingFiles {
  std::optional<std::filesystem::path> record, replay;
  StepRange steps;  ///< that are recorded
};

/// Of what step and tokens routes are, or will be.
void set_tokens(const data::Batch& batch, std::int64_t number,
                RoutedStep& step);
/// The routes of step `number`. Throws: Error(kData) if they are not there, or
/// not of this batch.
void read_routes(const RouteFile& file, const data::Batch& batch,
                 std::int64_t number, RoutedStep& step);
/// Throws: Usage where experts are dealt out, and no file can choose them.
void expect_choices(const ModelConfig& model);
/// Opens a file of routes to follow.
/// Throws: the same; Error(kData) if they are not of this model.
[[nodiscard]] RouteFile open_routes(const std::filesystem::path& path,
                                    const ModelConfig& model);

/// Writes the routes of a run's steps to a file, and, given one, replays
/// another's. With several ranks all have one; the file, which rank 0 writes,
/// holds the tokens of all in the order of the batch. For chunks on the CPU.
///   recorder.begin(batch, number);  step.compute(...);  recorder.end();
///   recorder.finish();
/// Thread rule: one thread.
class RouteRecorder : public Observer {
 public:
  /// `ranks`: null for one rank. Borrowed.
  /// Throws: Error(kData) if the routes to replay are not of this model.
  RouteRecorder(const RoutingFiles& files, const ModelConfig& model,
                Ranks* ranks);

  [[nodiscard]] bool replays() const { return replay_.has_value(); }

  /// Throws: Error(kData) if the routes to replay are not of this batch.
  void begin(const data::Batch& batch, std::int64_t number);
  /// Collective.
  void end();
  /// Completes the file.
  void finish();

  TensorView forced_routes(const Chunk& chunk, std::int64_t layer,
                           std::int64_t iteration) override;
  void routed(const Chunk& chunk, std::int64_t layer, std::int64_t iteration,
              const Routed& routes) override;

 private:
  RoutingFiles files_;
  RouteShape shape_;
  Ranks* ranks_;
  std::optional<RouteFile> replay_;
  std::optional<RouteFileWriter> writer_;  ///< of rank 0
  RoutedStep recorded_, replayed_;
  bool recording_ = false;  ///< this step
};

}  // namespace catena
