#include "training/verify.h"

#include <algorithm>
#include <cmath>
#include <mutex>

#include "parallel/local/transport.h"
#include "runtime/base/error.h"
#include "runtime/base/machine.h"
#include "training/route_recorder.h"
#include "training/step.h"

namespace catena {
namespace {

using Tensors = std::map<std::string, std::vector<double>>;

// float64: what no order of summation exceeds; float32: see docs/numerics.md.
constexpr Tolerance kExact{1e-9, 1e-9, 1e-9, 1e-9};
constexpr Tolerance kReplayed{1e-5, 1e-4, 1e-4, 1e-4};
constexpr double kAny = std::numeric_limits<double>::infinity();
constexpr Tolerance kFree{1e-4, kAny, kAny, kAny};

/// Enters the elements [begin, begin + values.size()) of a parameter under
/// the names of its parts.
void enter(const ParameterSpec& spec, std::int64_t begin,
           const std::vector<double>& values, Tensors& tensors) {
  const auto end = begin + static_cast<std::int64_t>(values.size());
  for (const NamedPart& part : spec.parts) {
    const std::int64_t elements = part.shape.elements();
    const std::int64_t from = std::max(begin, part.begin);
    const std::int64_t to = std::min(end, part.begin + elements);
    std::vector<double>& whole = tensors[part.name];
    whole.resize(static_cast<std::size_t>(elements));
    if (from >= to) continue;
    std::copy(values.begin() + (from - begin), values.begin() + (to - begin),
              whole.begin() + (from - part.begin));
  }
}

void enter_gradients(Model& model, const Optimizer& optimizer,
                     Tensors& tensors) {
  ParameterSet& set = model.parameters();
  for (std::size_t i = 0; i < optimizer.sections(); ++i) {
    const Parameter& parameter = set[optimizer.parameter(i)];
    const Optimizer::Run run = optimizer.run(i);
    const TensorView own = parameter.gradient()
                               .reshape({parameter.elements()})
                               .slice(0, run.begin, run.count);
    enter(parameter.spec(), run.begin, read_values(model.backend(), own),
          tensors);
  }
}

void enter_weights(Model& model, Tensors& tensors) {
  ParameterSet& set = model.parameters();
  for (std::size_t i = 0; i < set.size(); ++i) {
    for (const NamedPart& part : set[i].spec().parts) {
      auto values =
          read_values(model.backend(), part_of(set[i].master(), part));
      const auto [at, is_new] = tensors.emplace(part.name, values);
      if (!is_new && at->second != values) {
        fail(ErrorKind::kInternal, "{} is not the same on all its replicas",
             part.name);
      }
    }
  }
}

/// What is no number is further away than any.
double counted(double deviation) {
  return std::isnan(deviation) ? kAny : deviation;
}

double relative(double found, double expected) {
  const double difference = std::abs(found - expected);
  return counted(expected == 0 ? difference : difference / std::abs(expected));
}

/// ||a - b|| / ||b||, or ||a|| where b is zero.
double relative(const std::vector<double>& a, const std::vector<double>& b) {
  double difference = 0, size = 0;
  for (std::size_t i = 0; i < b.size(); ++i) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    size += b[i] * b[i];
  }
  return counted(std::sqrt(size == 0 ? difference : difference / size));
}

void take_largest(double value, const std::string& name, double& largest,
                  std::string& worst) {
  if (value <= largest) return;
  largest = value;
  worst = name;
}

void compare(const Tensors& found, const Tensors& expected, double& largest,
             std::string& worst) {
  for (const auto& [name, values] : expected) {
    const auto at = found.find(name);
    const bool there = at != found.end() && at->second.size() == values.size();
    take_largest(there ? relative(at->second, values) : kAny, name, largest,
                 worst);
  }
  for (const auto& [name, values] : found) {
    if (!expected.contains(name)) take_largest(kAny, name, largest, worst);
  }
}

std::vector<std::int64_t> tokens_of(const std::vector<data::Batch>& batches) {
  std::vector<std::int64_t> tokens;
  for (const data::Batch& batch : batches) {
    tokens.push_back(static_cast<std::int64_t>(batch.tokens.size()));
  }
  return tokens;
}

RouteTrace read_trace(const std::filesystem::path& path,
                      const ModelConfig& model,
                      const std::vector<data::Batch>& batches) {
  const RouteFile file = open_routes(path, model);
  RouteTrace trace(model, tokens_of(batches));
  RoutedStep step;
  for (std::size_t s = 0; s < batches.size(); ++s) {
    const auto number = static_cast<std::int64_t>(s);
    read_routes(file, batches[s], number + 1, step);
    std::copy(step.experts.begin(), step.experts.end(),
              trace.of_step(number).begin());
  }
  return trace;
}

void write_trace(RouteTrace& trace, const std::filesystem::path& path,
                 const ModelConfig& model,
                 const std::vector<data::Batch>& batches) {
  RouteFileWriter writer(path, RouteShape::of(model));
  RoutedStep step;
  for (std::size_t s = 0; s < batches.size(); ++s) {
    const auto number = static_cast<std::int64_t>(s);
    set_tokens(batches[s], number + 1, step);
    const auto experts = trace.of_step(number);
    step.experts.assign(experts.begin(), experts.end());
    writer.write(step);
  }
  writer.finish();
}

/// A type, and whose routes layouts follow in it.
struct Mode {
  const char* name;
  DType dtype;
  bool replay;  ///< the first layout's, or a file's
  Tolerance allowed;
  bool record = false;
};

std::vector<Mode> modes_of(const VerifyRoutes& routes) {
  if (routes.replay.has_value()) {
    return {{"float64, a file's routes", DType::kFloat64, true, kExact},
            {"float32, a file's routes", DType::kFloat32, true, kReplayed}};
  }
  return {{"float64", DType::kFloat64, false, kExact},
          {"float32, routes replayed", DType::kFloat32, true, kReplayed},
          {"float32, free", DType::kFloat32, false, kFree, true}};
}

/// With its sums in another order under `layout`, which it changes, too. A step
/// of one row a rank has none.
Config permuted(Config config, Layout& layout) {
  if (config.micro_rows(layout.data * layout.expert) > 1) {
    layout.chunks = config.parallel.chunks + 2;
  } else {
    // No chunks part a row.
    layout.chunks = 1;
    config.train.micro_batch_tokens = 2 * config.data.sequence;
  }
  return config;
}

}  // namespace

std::string Layout::name() const { return fmt::format("{}x{}", data, expert); }

Layout parse_layout(const std::string& text) {
  const auto cross = text.find('x');
  const auto number = [&](const std::string& part) {
    const bool digits =
        !part.empty() && part.size() < 5 &&
        part.find_first_not_of("0123456789") == std::string::npos;
    const int value = digits ? std::stoi(part) : 0;
    if (value < 1) {
      fail(ErrorKind::kUsage,
           "--layouts: {} is no layout; give data x expert ranks, such as "
           "1x1,2x1,2x2",
           text);
    }
    return value;
  };
  if (cross == std::string::npos) return {number(""), 1};
  return {number(text.substr(0, cross)), number(text.substr(cross + 1))};
}

LayoutRun run_layout(const Config& given, Precision precision,
                     const Layout& layout,
                     const std::vector<data::Batch>& batches,
                     RouteTrace* replay) {
  Config config = given;
  config.parallel.chunks = layout.chunks;
  const int world = layout.data * layout.expert;
  const Mesh mesh = config.mesh(world, layout.expert);
  LayoutRun run;
  run.routes = RouteTrace(config.model, tokens_of(batches));
  std::mutex mutex;
  local::run_ranks(world, [&](Transport& transport) {
    const auto backend =
        make_cpu_backend(std::max(1, available_cores() / world));
    Ranks ranks(transport, *backend, mesh, config.placements(mesh),
                Communicator::Deadline(config.parallel.timeout),
                config.dispatch_rules(config.micro_rows(world)));
    Ranks* const shared = world > 1 ? &ranks : nullptr;
    Model model(*backend, config.model, precision, shared);
    model.parameters().initialize(
        static_cast<std::uint64_t>(config.train.seed));
    Optimizer optimizer(model.parameters(), config.optimizer, shared);
    Step step(model, optimizer, config);
    RouteTracer tracer(run.routes, replay);
    step.set_observer(&tracer);
    StepReport report;
    for (std::size_t s = 0; s < batches.size(); ++s) {
      tracer.set_step(static_cast<std::int64_t>(s));
      try {
        step.compute(batches[s], static_cast<std::int64_t>(s) + 1, report);
      } catch (const std::exception& error) {
        // As long as there is what others may still write into.
        transport.abandon(error.what());
        throw;
      }
      if (s == 0) {
        const std::lock_guard lock(mutex);
        enter_gradients(model, optimizer, run.gradients);
      }
      if (transport.rank() == 0) {
        run.losses.push_back(report.loss);
        run.norms.push_back(report.gradient_norm);
      }
      step.apply(report);
    }
    optimizer.gather_masters();
    const std::lock_guard lock(mutex);
    enter_weights(model, run.weights);
  });
  return run;
}

Deviation deviation(const LayoutRun& run, const LayoutRun& reference) {
  Deviation result;
  for (std::size_t s = 0; s < reference.losses.size(); ++s) {
    result.loss =
        std::max(result.loss, relative(run.losses[s], reference.losses[s]));
    result.norm =
        std::max(result.norm, relative(run.norms[s], reference.norms[s]));
  }
  compare(run.gradients, reference.gradients, result.gradient,
          result.worst_gradient);
  compare(run.weights, reference.weights, result.weights, result.worst_weights);
  result.flips = reference.routes.flips(run.routes);
  return result;
}

bool VerifyRow::passed() const {
  // What is missing or no number is so far away that nothing allows it.
  const auto within = [](double deviation, double most) {
    return std::isfinite(deviation) && deviation <= most;
  };
  return within(found.loss, allowed.loss) && within(found.norm, allowed.norm) &&
         within(found.gradient, allowed.gradient) &&
         within(found.weights, allowed.weights);
}

bool verify_layouts(const Config& config, const std::vector<Layout>& layouts,
                    const std::vector<data::Batch>& batches,
                    const VerifyRoutes& routes,
                    const std::function<void(const VerifyRow&)>& shown) {
  std::optional<RouteTrace> given;
  if (routes.replay.has_value()) {
    given = read_trace(*routes.replay, config.model, batches);
  }
  bool all = true;
  for (const Mode& mode : modes_of(routes)) {
    LayoutRun reference =
        run_layout(config, {mode.dtype}, layouts.front(), batches,
                   given.has_value() ? &*given : nullptr);
    if (mode.record && routes.record.has_value()) {
      write_trace(reference.routes, *routes.record, config.model, batches);
    }
    const auto compare_with = [&](const Config& with, const Layout& layout,
                                  bool null) {
      const LayoutRun run =
          run_layout(with, {mode.dtype}, layout, batches,
                     mode.replay ? &reference.routes : nullptr);
      const VerifyRow row{layout.name(), mode.name, deviation(run, reference),
                          mode.allowed, null};
      shown(row);
      all &= row.passed() || null;
    };
    Layout other = layouts.front();
    const Config changed = permuted(config, other);
    compare_with(changed, other, true);
    for (std::size_t i = 1; i < layouts.size(); ++i) {
      compare_with(config, layouts[i], false);
    }
  }
  return all;
}

}  // namespace catena
