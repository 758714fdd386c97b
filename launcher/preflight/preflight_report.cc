#include "launcher/preflight/preflight_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "launcher/preflight/units.h"
#include "runtime/base/hash.h"

namespace catena::launcher {
namespace {

using Json = nlohmann::json;

constexpr int kSchema = 1;
constexpr std::size_t kMostLines = 16;

std::string line_of(std::size_t number, const NodeFacts& node,
                    const std::optional<LinkFacts>& links) {
  std::string clock = "?", cores = "?", memory = "?", disk = "?", write = "?",
              compute = "-", latency = "-", bandwidth = "-";
  if (node.clock_ahead_seconds) {
    const double ahead = *node.clock_ahead_seconds;
    clock = (ahead < 0 ? "-" : "+") + seconds_text(std::abs(ahead));
  }
  if (node.machine) {
    cores = fmt::format("{}", node.machine->cores);
    memory = bytes_text(node.machine->free_memory_bytes);
    disk = bytes_text(node.machine->free_disk_bytes);
    write = seconds_text(node.machine->write_seconds);
  }
  if (node.flops) compute = flops_text(*node.flops);
  if (links) {
    latency = seconds_text(links->latency_seconds);
    bandwidth = speed_text(links->bytes_per_second);
  }
  return fmt::format("{:<24} {:>9} {:>5} {:>9} {:>9} {:>8} {:>13} {:>8} {:>11}",
                     fmt::format("{} ({})", number, node.host), clock, cores,
                     memory, disk, write, compute, latency, bandwidth);
}

Json json_of(const NodeFacts& node) {
  Json json = {{"host", node.host},
               {"ranks", node.ranks},
               {"clock_ahead_seconds", nullptr},
               {"round_trip_seconds", nullptr},
               {"machine", nullptr},
               {"flops", nullptr},
               {"silent", nullptr}};
  if (node.clock_ahead_seconds) {
    json["clock_ahead_seconds"] = *node.clock_ahead_seconds;
    json["round_trip_seconds"] = node.round_trip_seconds;
  }
  if (node.flops) json["flops"] = *node.flops;
  if (!node.silent.empty()) json["silent"] = node.silent;
  if (!node.machine) return json;
  const MachineFacts& machine = *node.machine;
  Json hashes = Json::array();
  for (const auto hash : machine.file_hashes) {
    hashes.push_back(hexadecimal(hash));
  }
  json["machine"] = {{"cores", machine.cores},
                     {"memory_bytes", machine.memory_bytes},
                     {"free_memory_bytes", machine.free_memory_bytes},
                     {"free_disk_bytes", machine.free_disk_bytes},
                     {"write_seconds", machine.write_seconds},
                     {"disk_error", machine.disk_error},
                     {"program_hash", hexadecimal(machine.program_hash)},
                     {"file_hashes", hashes}};
  return json;
}

Json json_of(const LinkFound& link) {
  Json json = {{"from", link.from},
               {"to", link.to},
               {"latency_seconds", nullptr},
               {"bytes_per_second", nullptr},
               {"failed", nullptr}};
  if (link.failed.empty()) {
    json["latency_seconds"] = link.facts.latency_seconds;
    json["bytes_per_second"] = link.facts.bytes_per_second;
  } else {
    json["failed"] = link.failed;
  }
  return json;
}

Json median_of(const std::vector<double>& values) {
  return values.empty() ? Json() : Json(median(values));
}

Json json_of(const Finding& finding) {
  Json json = {{"severity", name_of(finding.severity)},
               {"probe", finding.probe},
               {"text", finding.text},
               {"figure", nullptr},
               {"median", nullptr}};
  if (finding.figure) json["figure"] = *finding.figure;
  if (finding.median) json["median"] = *finding.median;
  return json;
}

}  // namespace

std::vector<std::string> preflight_table(const std::vector<NodeFacts>& nodes,
                                         const std::vector<LinkFound>& links,
                                         const JobNeeds& needs) {
  const auto& first = nodes.front().machine;
  if (nodes.size() == 1) {
    if (!first) return {};
    return {fmt::format(
        "preflight: {} cores; of memory {} are free, and ranks need {}; of "
        "disk {}, and checkpoints take {}",
        first->cores, bytes_text(first->free_memory_bytes),
        bytes_text(needs.rank_bytes * nodes.front().ranks),
        bytes_text(first->free_disk_bytes), bytes_text(needs.disk_bytes))};
  }
  std::vector<std::string> lines = {
      fmt::format("preflight                {:>9} {:>5} {:>9} {:>9} {:>8} "
                  "{:>13} {:>8} {:>11}",
                  "clock", "cores", "memory", "disk", "1 MiB", "compute",
                  "latency", "bandwidth")};
  for (std::size_t i = 0; i < std::min(nodes.size(), kMostLines); ++i) {
    lines.push_back(
        line_of(i, nodes[i], best_links(links, static_cast<int>(i))));
  }
  if (nodes.size() > kMostLines) {
    lines.push_back(
        fmt::format("and {} more: preflight.json in the run's "
                    "folder",
                    nodes.size() - kMostLines));
  }
  return lines;
}

std::string finding_text(const std::vector<NodeFacts>& nodes,
                         const Finding& finding) {
  return fmt::format("preflight: {} ({}) is {}: {}", finding.node,
                     nodes.at(static_cast<std::size_t>(finding.node)).host,
                     name_of(finding.severity), finding.text);
}

std::string preflight_json(const std::vector<NodeFacts>& nodes,
                           const std::vector<LinkFound>& links,
                           const JobNeeds& needs,
                           const std::vector<Finding>& findings,
                           const Chosen& chosen) {
  Json all = Json::array();
  std::vector<double> flops;
  for (const NodeFacts& node : nodes) {
    all.push_back(json_of(node));
    all.back()["findings"] = Json::array();
    if (node.flops) flops.push_back(*node.flops);
  }
  for (const Finding& finding : findings) {
    all.at(static_cast<std::size_t>(finding.node))["findings"].push_back(
        json_of(finding));
  }
  Json ways = Json::array();
  std::vector<double> speeds, latencies;
  for (const LinkFound& link : links) {
    ways.push_back(json_of(link));
    if (!link.failed.empty()) continue;
    speeds.push_back(link.facts.bytes_per_second);
    latencies.push_back(link.facts.latency_seconds);
  }
  const Json json = {{"schema", kSchema},
                     {"needs",
                      {{"rank_bytes", needs.rank_bytes},
                       {"disk_bytes", needs.disk_bytes},
                       {"program", needs.program},
                       {"files", needs.files}}},
                     {"medians",
                      {{"flops", median_of(flops)},
                       {"latency_seconds", median_of(latencies)},
                       {"bytes_per_second", median_of(speeds)}}},
                     {"nodes", all},
                     {"links", ways},
                     {"chosen", chosen.nodes},
                     {"error", chosen.code == 0 ? Json() : Json(chosen.why)}};
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace catena::launcher
