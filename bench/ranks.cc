// catena-bench-ranks CONFIG [--set KEY=VALUE]... [--ranks N] [--rounds N]
// Training steps on full rows of random tokens, routing forced to be balanced,
// or, with --replay-routing FILE (without more), as a file's steps had it:
//   without more    N processes of one thread, experts over all of them,
//                   against one process of N threads, in turn
//   --overlap       N processes on a wire whose bytes take --wire (0.5) of the
//                   time that a step computes, for C (--iterations) and
//                   --chunks of 1, 2 and 4: what is exposed, and what the order
//                   of issue leaves so. --link namespaces: two ranks over TCP
//                   between network namespaces (root; bench/slow_wire.h).
//                   --link none: on the fast wire alone.
//                   --timeline FILE: rank 0's last step of the last row of the
//                   table, for bench/plot_timeline or ui.perfetto.dev
//   --foretell      steps of N ranks that the kernel table of another model
//                   foretells, on the fast wire and the simulated one, and
//                   what they took. --link namespaces: two ranks on the real
//                   one, too. --link none: on the fast wire alone
// Prints Markdown.

#include <CLI/CLI.hpp>

#include "bench/program.h"
#include "bench/rank_steps.h"
#include "runtime/base/error.h"

namespace catena::bench {

int run(int argc, char** argv) {
  CLI::App app("Times training steps of several ranks on random tokens.",
               "catena-bench-ranks");
  StepOptions options;
  bool overlap = false, foretell = false;
  app.add_option("config", options.config)->required();
  app.add_option("--set", options.assignments, "KEY=VALUE; repeatable");
  app.add_option("--ranks", options.ranks)->check(CLI::Range(2, 64));
  app.add_option("--steps", options.steps)->check(CLI::PositiveNumber);
  app.add_option("--rounds", options.rounds)->check(CLI::PositiveNumber);
  const auto what = app.add_option_group("what", "instead of comparing");
  auto* const table = what->add_flag("--overlap", overlap);
  what->add_flag("--foretell", foretell)->excludes(table);
  app.add_option("--wire", options.wire,
                 "What the wire takes of the time that a step computes")
      ->check(CLI::PositiveNumber);
  const auto* const link =
      app.add_option("--link", options.link,
                     "The slow wire of --overlap and --foretell")
          ->check(CLI::IsMember({"simulated", "namespaces", "none"}));
  for (const auto& [name, values] :
       {std::pair{"--iterations", &options.iterations},
        std::pair{"--chunks", &options.chunks}}) {
    app.add_option(name, *values)
        ->delimiter(',')
        ->check(CLI::PositiveNumber)
        ->needs(table);
  }
  app.add_option("--timeline", options.timeline, "Chrome trace events, as JSON")
      ->needs(table);
  app.add_option("--replay-routing", options.replay_routing,
                 "Experts as a file of catena train --record-routing says")
      ->excludes("--overlap")
      ->excludes("--foretell");
  CLI11_PARSE(app, argc, argv);
  if (link->count() > 0 && !overlap && !foretell) {
    fail(ErrorKind::kUsage, "--link needs --overlap or --foretell");
  }
  if (options.replay_routing.empty()) {
    std::printf("FORCED BALANCED: experts are dealt out, not chosen\n\n");
  } else {
    std::printf("ROUTES REPLAYED: those of %s\n\n",
                options.replay_routing.c_str());
  }
  if (overlap) {
    measure_overlap(options);
  } else if (foretell) {
    foretell_ranks(options);
  } else {
    compare_ranks(options);
  }
  return 0;
}

}  // namespace catena::bench
