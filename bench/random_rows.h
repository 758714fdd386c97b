#pragma once

#include <optional>
#include <string>

#include "layers/chunk.h"
#include "training/route_file.h"
#include "training/step.h"

namespace catena::bench {

/// Batches of rows of random tokens, one document each: full rows, or, where
/// the routes of a file are replayed, rows as long as those of its steps, from
/// the first again after the last. As the observer of the step, it then
/// chooses the file's experts, whatever the tokens are.
/// Thread rule: one thread.
class RandomRows final : public Observer {
 public:
  /// `routes`: "", or a file. Borrows `config`.
  /// Throws: as open_routes().
  RandomRows(const Config& config, const std::string& routes);

  [[nodiscard]] bool replays() const { return file_.has_value(); }
  /// The batch of step `number`, from 1.
  /// Throws: Error(kData) if the file's is of another size.
  [[nodiscard]] data::Batch next(std::int64_t number);

  TensorView forced_routes(const Chunk& chunk, std::int64_t layer,
                           std::int64_t iteration) override;

 private:
  const Config& config_;
  std::optional<RouteFile> file_;
  RoutedStep step_;
};

}  // namespace catena::bench
