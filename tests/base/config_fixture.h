#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "runtime/base/config.h"
#include "runtime/base/error.h"

namespace catena::config {

/// A small configuration with a key of every type and every kind of limit.
struct Example {
  std::int64_t seed = 1;
  std::int64_t hidden = 256;
  std::int64_t offset = 0;
  std::string attention = "mla";
  std::int64_t iterations = 2;
  std::vector<std::string> train = {"a.jsonl"};
  std::vector<std::string> stages;
  std::string name;
  bool packed = true;
  std::int64_t steps = 1000;
  double rate = 0.001;
  double clip = 1;

  Schema schema;

  Example() {
    constexpr auto kMost = std::numeric_limits<std::int64_t>::max();
    constexpr auto kLeast = std::numeric_limits<std::int64_t>::min();
    constexpr auto kInfinity = std::numeric_limits<double>::infinity();
    schema.add("seed", seed, Integer{0, kMost, "", "Random seed."});
    schema.section("model", "The model.");
    schema.add("model.hidden", hidden,
               Integer{1, 65536, "features", "Width of the residual stream."});
    schema.add("model.offset", offset, Integer{kLeast, kMost, "", "Any."});
    schema.section("model.attention", "");
    schema.add("model.attention.kind", attention,
               Text{{"mla", "gqa"}, "", "Kind of attention."});
    schema.section("model.chain", "The chain of experts.");
    schema.add("model.chain.iterations", iterations,
               Integer{1, 64, "iterations", "Length of the chain (C)."});
    schema.section("data", "Text to learn from.");
    schema.add("data.train", train, Text{{}, "paths", "Training files."});
    schema.add("data.stages", stages, Text{{"one", "two"}, "", "Stages."});
    schema.add("data.name", name, Text{{}, "", "A name, or a|b."});
    schema.add("data.packed", packed, Switch{"Pack short rows into one."});
    schema.section("train", "The training loop.");
    schema.add("train.steps", steps,
               Integer{1, 1'000'000, "steps", "Optimizer steps."});
    schema.add("train.rate", rate, Number{0, 1, "", "Highest learning rate."});
    schema.add("train.clip", clip,
               Number{0, kInfinity, "", "Largest gradient norm."});
  }

  /// What finish() says; "" if it is content.
  std::string problems() {
    try {
      schema.finish();
    } catch (const Error& error) {
      return error.kind() == ErrorKind::kConfig ? error.what() : "wrong kind";
    }
    return "";
  }
};

}  // namespace catena::config
