#include "launcher/monitor/run_metrics.h"

#include <fmt/format.h>
#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>
#include <sys/resource.h>

#include <algorithm>
#include <cmath>
#include <sstream>
#include <utility>

#include "launcher/job_state.h"
#include "launcher/monitor/run_facts.h"
#include "runtime/base/machine.h"

namespace catena::launcher {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;
using Labels = std::vector<ClientMetric::Label>;

std::string text_of(std::size_t number) { return fmt::format("{}", number); }

class Families {
 public:
  void begin(const char* name, const char* help, MetricType type) {
    families_.push_back({name, help, type, {}});
  }
  void gauge(const char* name, const char* help, double value) {
    begin(name, help, MetricType::Gauge);
    add(value);
  }
  void counter(const char* name, const char* help, double value) {
    begin(name, help, MetricType::Counter);
    add(value);
  }
  /// A sample of the last family; none where it is not finite.
  void add(double value, Labels labels = {}) {
    if (!std::isfinite(value)) return;
    ClientMetric metric;
    metric.label = std::move(labels);
    metric.gauge.value = metric.counter.value = value;
    families_.back().metric.push_back(std::move(metric));
  }
  void add(const Distribution& values, Labels labels = {}) {
    ClientMetric metric;
    metric.label = std::move(labels);
    std::uint64_t count = 0;
    for (std::size_t i = 0; i < values.bounds.size(); ++i) {
      count += static_cast<std::uint64_t>(values.counts[i]);
      metric.histogram.bucket.push_back({count, values.bounds[i]});
    }
    metric.histogram.sample_count =
        count + static_cast<std::uint64_t>(values.counts.back());
    metric.histogram.sample_sum = values.sum;
    families_.back().metric.push_back(std::move(metric));
  }
  /// [chain layer][iteration]
  void layers(const char* name, const char* help, const LayerValues& values) {
    begin(name, help, MetricType::Gauge);
    for (std::size_t l = 0; l < values.size(); ++l) {
      for (std::size_t t = 0; t < values[l].size(); ++t) {
        add(values[l][t], {{"layer", text_of(l)}, {"iteration", text_of(t)}});
      }
    }
  }
  /// A family without a sample is none.
  [[nodiscard]] std::vector<MetricFamily> take() {
    std::erase_if(families_, [](const auto& f) { return f.metric.empty(); });
    return std::move(families_);
  }

 private:
  std::vector<MetricFamily> families_;
};

void add_control(Families& all, const RunFacts& facts) {
  all.begin("catena_control_connections_rejected_total",
            "Connections to the launcher that were turned away, by reason.",
            MetricType::Counter);
  for (const auto& [reason, count] : facts.rejected) {
    all.add(count, {{"reason", reason}});
  }
  if (facts.stale < 0) return;
  all.counter("catena_control_stale_messages_total",
              "Messages of another generation, which were dropped.",
              facts.stale);
}

void add_recoveries(Families& all, const Recoveries& recoveries) {
  all.begin("catena_recovery_duration_seconds",
            "Seconds of a restart, by phase; loading is none of them.",
            MetricType::Histogram);
  all.add(recoveries.stop, {{"phase", "stop"}});
  all.add(recoveries.start, {{"phase", "start"}});
  all.counter("catena_lost_steps_total",
              "Steps that were taken and that no checkpoint had at a restart.",
              recoveries.lost_steps);
}

/// Of the process that answers.
void add_process(Families& all) {
  rusage used{};
  ::getrusage(RUSAGE_SELF, &used);
  const auto seconds = [](const timeval& time) {
    constexpr double kMicroseconds = 1e6;
    return static_cast<double>(time.tv_sec) +
           static_cast<double>(time.tv_usec) / kMicroseconds;
  };
  all.counter("catena_process_cpu_seconds_total",
              "Processor time of the process that serves this page.",
              seconds(used.ru_utime) + seconds(used.ru_stime));
  all.gauge("catena_process_resident_memory_bytes", "Its resident memory.",
            static_cast<double>(resident_bytes()));
}

void add_job(Families& all, const RunView& view, double now) {
  all.begin("catena_build_info",
            "Version of this program, and of what it was built with; always 1.",
            MetricType::Gauge);
  all.add(1, {{"version", CATENA_VERSION},
              {"mpi", CATENA_MPI_VERSION},
              {"cuda", CATENA_CUDA_VERSION}});
  all.begin("catena_job_state", "1 for the state the job is in, 0 for others.",
            MetricType::Gauge);
  const std::string state = view.state();
  for (const JobPhase phase : kJobPhases) {
    all.add(state == name_of(phase) ? 1 : 0, {{"state", name_of(phase)}});
  }
  const RunFacts facts(view, now);
  if (!view.job.is_null()) {
    all.gauge("catena_generation", "Starts of all ranks, from 1.",
              static_cast<double>(facts.generation));
    all.begin("catena_restarts_total", "Restarts of all ranks, by cause.",
              MetricType::Counter);
    for (const auto& [cause, count] : facts.restarts) {
      all.add(count, {{"cause", cause}});
    }
    all.begin("catena_rank_failures_total",
              "Failures that ended a generation, by cause.",
              MetricType::Counter);
    for (const auto& [cause, count] : facts.failures) {
      all.add(count, {{"cause", cause}});
    }
    all.counter("catena_wall_seconds_total", "Seconds since the job began.",
                facts.wall_seconds);
    add_control(all, facts);
    add_recoveries(all, view.recoveries);
  }
  all.counter("catena_productive_seconds_total",
              "Seconds of the steps that the run is made of.",
              view.ranks.empty() ? 0 : view.ranks[0].step_seconds);
}

void add_training(Families& all, const RunView& view) {
  if (view.ranks.empty() || view.ranks[0].step == 0) return;
  const MetricsRecord& last = view.last;
  all.gauge("catena_step", "Newest step.", static_cast<double>(last.step));
  all.counter("catena_tokens_total", "Tokens since the start of the run.",
              last.tokens_total);
  all.gauge("catena_tokens_per_second", "Tokens per second, newest step.",
            last.tokens_per_second);
  double flops = 0;
  for (const RankView& rank : view.ranks) flops += rank.flops;
  all.counter("catena_model_flops_total",
              "Operations of matrix products and attention, all ranks.", flops);
  all.gauge("catena_mfu_ratio", "Model operations over the probe's peak.",
            last.mfu);
  all.begin("catena_loss", "Nats a trained token.", MetricType::Gauge);
  all.add(last.loss, {{"kind", "train"}});
  all.add(view.validation_loss, {{"kind", "validation"}});
  all.gauge("catena_grad_norm", "Norm of the gradient before clipping.",
            last.gradient_norm);
  all.gauge("catena_learning_rate", "Learning rate.", last.learning_rate);
  all.layers("catena_expert_load_max_to_mean_ratio",
             "Choices of the busiest expert over the mean; 1 is balanced.",
             last.expert_load);
  all.layers("catena_experts_idle", "Experts that no token chose.",
             last.experts_idle);
  all.layers("catena_router_entropy_nats", "Entropy of the router, mean.",
             last.router_entropy);
  all.layers("catena_rank_load_max_to_mean_ratio",
             "Rows of the busiest rank over the mean; 1 is balanced.",
             last.rank_load);
}

Labels of(const RankView& rank, Labels more = {}) {
  Labels labels = {{"rank", fmt::format("{}", rank.rank)}};
  labels.insert(labels.end(), more.begin(), more.end());
  return labels;
}

void add_ranks(Families& all, const RunView& view, double now) {
  const auto each = [&](auto&& sample) {
    for (const RankView& rank : view.ranks) {
      if (rank.step > 0) sample(rank);
    }
  };
  all.begin("catena_step_duration_seconds", "Seconds of a step.",
            MetricType::Histogram);
  each([&](const auto& rank) { all.add(rank.durations, of(rank)); });
  all.begin("catena_memory_bytes", "Resident memory.", MetricType::Gauge);
  each([&](const auto& rank) {
    all.add(rank.memory_bytes, of(rank, {{"kind", "host"}}));
  });
  all.begin("catena_memory_peak_bytes", "Its peak.", MetricType::Gauge);
  each([&](const auto& rank) {
    all.add(rank.memory_peak_bytes, of(rank, {{"kind", "host"}}));
  });
  all.begin("catena_straggler_score_ratio",
            "Seconds of a step without waits, over the fastest rank's.",
            MetricType::Gauge);
  const double fastest = fastest_rank(view);
  each([&](const auto& rank) {
    if (fastest > 0) all.add(rank.busy / fastest, of(rank));
  });
  if (view.ended()) return;
  all.begin("catena_rank_heartbeat_age_seconds",
            "Seconds since the rank wrote a line of metrics.",
            MetricType::Gauge);
  each([&](const auto& rank) {
    all.add(std::max(0.0, now - rank.modified), of(rank));
  });
}

void add_exchanges(Families& all, const RunView& view) {
  if (view.ranks.size() < 2) return;
  const auto sums = [](const RankView& rank) {
    MetricsRecord::Phase sum;
    for (std::size_t i = 0; i < kAllToAllPhases; ++i) {
      sum.exposed += rank.phases[i].exposed;
      sum.overlapped += rank.phases[i].overlapped;
      sum.bytes += rank.phases[i].bytes;
      sum.across_bytes += rank.phases[i].across_bytes;
    }
    return sum;
  };
  all.begin("catena_all_to_all_seconds_total",
            "Seconds in which rows of tokens were under way.",
            MetricType::Counter);
  for (const RankView& rank : view.ranks) {
    const auto sum = sums(rank);
    all.add(sum.exposed, of(rank, {{"kind", "exposed"}}));
    all.add(sum.overlapped, of(rank, {{"kind", "overlapped"}}));
  }
  all.begin("catena_all_to_all_bytes_total", "Bytes of rows of tokens.",
            MetricType::Counter);
  for (const RankView& rank : view.ranks) {
    const auto sum = sums(rank);
    const auto labels = [&rank](const char* scope) {
      return of(rank, {{"direction", "sent"}, {"scope", scope}});
    };
    all.add(sum.bytes - sum.across_bytes, labels("intra"));
    all.add(sum.across_bytes, labels("inter"));
  }
  all.begin("catena_exchange_seconds_total",
            "Seconds in which an exchange was under way, by phase.",
            MetricType::Counter);
  for (const RankView& rank : view.ranks) {
    for (std::size_t i = 0; i < kExchangePhases.size(); ++i) {
      const auto labels = [&](const char* kind) {
        return of(rank, {{"phase", kExchangePhases[i]}, {"kind", kind}});
      };
      all.add(rank.phases[i].exposed, labels("exposed"));
      all.add(rank.phases[i].overlapped, labels("overlapped"));
    }
  }
}

void add_checkpoints(Families& all, const RunView& view) {
  all.begin("catena_checkpoint_stall_seconds",
            "Seconds that training waited for a checkpoint.",
            MetricType::Histogram);
  all.add(view.checkpoint_stall);
  all.begin("catena_checkpoint_write_seconds",
            "Seconds that writing a checkpoint took.", MetricType::Histogram);
  all.add(view.checkpoint_write);
  all.counter("catena_checkpoint_bytes_total", "Bytes of checkpoints.",
              view.checkpoint_bytes);
  all.begin("catena_checkpoint_failures_total",
            "Checkpoints that could not be written.", MetricType::Counter);
  all.add(static_cast<double>(view.checkpoint_failures), {{"reason", "write"}});
  if (view.checkpoint_every > 0) {
    all.gauge("catena_checkpoint_interval_steps",
              "Steps from one checkpoint to the next, as configured.",
              static_cast<double>(view.checkpoint_every));
  }
  if (view.checkpoint_step == 0) return;
  all.gauge("catena_checkpoint_last_step", "Step of the newest checkpoint.",
            static_cast<double>(view.checkpoint_step));
  all.gauge("catena_checkpoint_last_success_timestamp_seconds",
            "When the newest checkpoint was written, seconds of the epoch.",
            view.checkpoint_time);
}

std::string key_of(const std::string& family, const ClientMetric& metric) {
  std::string key = family;
  for (const auto& label : metric.label) key += '\n' + label.value;
  return key;
}

}  // namespace

std::string RunMetrics::text(const RunView& view, double now) {
  Families all;
  add_job(all, view, now);
  add_training(all, view);
  add_ranks(all, view, now);
  add_exchanges(all, view);
  add_checkpoints(all, view);
  add_process(all);
  std::vector<MetricFamily> families = all.take();
  const auto rise = [this](const std::string& key, auto& value) {
    double& highest = highest_[key];
    highest = std::max(highest, static_cast<double>(value));
    value = static_cast<std::decay_t<decltype(value)>>(highest);
  };
  for (MetricFamily& family : families) {
    for (ClientMetric& metric : family.metric) {
      const std::string key = key_of(family.name, metric);
      if (family.type == MetricType::Counter) rise(key, metric.counter.value);
      if (family.type != MetricType::Histogram) continue;
      rise(key + "\ncount", metric.histogram.sample_count);
      rise(key + "\nsum", metric.histogram.sample_sum);
      for (auto& bucket : metric.histogram.bucket) {
        rise(fmt::format("{}\n{}", key, bucket.upper_bound),
             bucket.cumulative_count);
      }
    }
  }
  std::ostringstream text;
  prometheus::TextSerializer().Serialize(text, families);
  return text.str();
}

}  // namespace catena::launcher
