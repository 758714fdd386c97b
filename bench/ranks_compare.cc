#include <cstdio>

#include "bench/rank_steps.h"
#include "bench/timing.h"
#include "training/plan.h"
#include "training/sources.h"

namespace catena::bench {

void compare_ranks(const StepOptions& options) {
  const Config config = load_config(options);
  std::vector<double> alone, together, ratios, exposed;
  const auto rate = [&](const Steps& steps) {
    return steps.tokens / steps.middle();
  };
  for (int round = 0; round < options.rounds; ++round) {
    const Steps one = measure(config, options, 1, options.ranks).front();
    const Steps many = measure(config, options, options.ranks, 1).front();
    alone.push_back(rate(one));
    together.push_back(rate(many));
    ratios.push_back(rate(many) / rate(one));
    exposed.push_back(100 * many.exposed_seconds / many.middle());
  }
  std::printf(
      "| model | tokens a step | 1 process of %d threads, tokens/s | "
      "%d processes of 1 thread, tokens/s | ratio | exposed %% | rounds |\n"
      "|--|--:|--:|--:|--:|--:|--:|\n| %s | %lld | %s | %s | %s | %s | %d |\n",
      options.ranks, options.ranks, model_name(config.model).c_str(),
      static_cast<long long>(config.train.batch_tokens),
      with_spread(alone, 0).c_str(), with_spread(together, 0).c_str(),
      with_spread(ratios, 3).c_str(), with_spread(exposed, 1).c_str(),
      options.rounds);
}

}  // namespace catena::bench
