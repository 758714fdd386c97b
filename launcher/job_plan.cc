#include "launcher/job_plan.h"

#include <fmt/format.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include "launcher/commands/trainer.h"
#include "launcher/contract.h"
#include "launcher/job_layout.h"
#include "launcher/mpi_step.h"
#include "launcher/preflight/units.h"
#include "launcher/trainer_output.h"
#include "runtime/base/error.h"
#include "runtime/base/log.h"

namespace catena::launcher {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr int kResultSchema = 1;
constexpr int kMillisecond = 1000;

std::string host_name() {
  std::array<char, 256> name{};
  ::gethostname(name.data(), name.size() - 1);
  return name.data();
}

void add_settings(const LaunchRequest& request,
                  std::vector<std::string>& arguments) {
  for (const std::string& assignment : request.assignments) {
    arguments.insert(arguments.end(), {"--set", assignment});
  }
}

std::vector<std::string> begin_arguments(const LaunchRequest& request,
                                         int ranks, bool dry_run) {
  std::vector<std::string> arguments = {kTrainerName, kBeginCommand,
                                        request.config, "--ranks",
                                        fmt::format("{}", ranks)};
  if (request.resume) arguments.emplace_back("--resume");
  if (dry_run) arguments.emplace_back("--dry-run");
  if (request.preflight || dry_run) arguments.emplace_back("--needs");
  if (!request.trace.empty()) {
    arguments.insert(arguments.end(), {"--trace", request.trace});
  }
  add_settings(request, arguments);
  return arguments;
}

RankLayout layout_of(const LaunchRequest& request, const std::string& here) {
  if (!request.hosts.empty()) return lay_ranks(request.ranks, request.hosts);
  const auto agents = static_cast<std::size_t>(std::max(1, request.agents));
  return lay_ranks(request.ranks,
                   std::vector<Host>(agents, Host{.name = here}));
}

/// Of a trainer that does not say them nothing is asked. Agents are not yet in
/// this folder when they are.
JobNeeds needs_of(const Json& begun, const fs::path& program) {
  JobNeeds needs{.rank_bytes = begun.value("rank_bytes", std::int64_t{0}),
                 .disk_bytes = begun.value("disk_bytes", std::int64_t{0}),
                 .program = fs::absolute(program).string()};
  for (const auto& file : begun.value("files", std::vector<std::string>())) {
    needs.files.push_back(fs::absolute(file).lexically_normal().string());
  }
  return needs;
}

Json json_of(const JobPlan& plan, const Cause& cause) {
  const RankEnding& ending = cause.ending;
  return {{"rank", cause.rank},
          {"host", cause.host.empty() ? plan.host : cause.host},
          {"process", ending.process},
          {"code", cause.rank < 0 ? cause.code : ending.code},
          {"signal", ending.signal},
          {"step", ending.step},
          {"section", ending.section},
          {"exchange", cause.exchange},
          {"hung", ending.hung},
          {"text", cause.text},
          {"last_words", ending.last_words}};
}

const char* state_of(const RankEnding& ending) {
  if (ending.lost) return "lost";
  if (ending.stopped) return "stopped";
  const bool good = ending.signal == 0 && (ending.code == kExitPreempted ||
                                           (ending.code == 0 && ending.done));
  return good ? "done" : "failed";
}

std::vector<std::string> rank_states(const JobState& state, int ranks) {
  std::vector<std::string> states(static_cast<std::size_t>(ranks),
                                  state.started ? "starting" : "waiting");
  for (const int rank : state.joined) {
    states.at(static_cast<std::size_t>(rank)) = "running";
  }
  for (const RankEnding& ending : state.endings) {
    states.at(static_cast<std::size_t>(ending.rank)) = state_of(ending);
  }
  return states;
}

/// Whether the job could go on when machines are lost: now is the time to say
/// it, not then. What is wrong is said by the trainer.
int check_fewer(const LaunchRequest& request, const JobPlan& plan) {
  if (request.least_agents == 0) return kExitSuccess;
  const int machines = static_cast<int>(plan.layout.hosts.size());
  for (int left = request.least_agents; left < machines; ++left) {
    const int ranks = request.ranks / machines * left;
    const TrainerOutput begun =
        trainer_output(plan.program, begin_arguments(request, ranks, true));
    if (begun.code != kExitSuccess) {
      log::error(
          "on {} of {} machines (--nnodes) {} ranks would be left, "
          "for which this configuration is not made",
          left, machines, ranks);
      return begun.code;
    }
  }
  return kExitSuccess;
}

/// What "auto" is for ranks that are started like this.
void add_transport(const LaunchRequest& request, JobPlan& plan,
                   const std::string& said) {
  const auto set = [&](const char* transport) {
    plan.arguments.insert(
        plan.arguments.end(),
        {"--set", fmt::format("parallel.transport={}", transport)});
  };
  if (request.engine == Engine::kMpi) {
    if (said != "auto" && said != "mpi") {
      fail(ErrorKind::kUsage,
           "--engine mpi joins ranks by MPI, and parallel.transport is \"{}\": "
           "leave it at \"auto\", or take another engine",
           said);
    }
    set("mpi");
  } else if (request.ranks > 1 && plan.layout.hosts.size() == 1 &&
             said == "auto") {
    // Ranks that are told where to meet are of any machines unless told so.
    set("shared_memory");
  }
}

/// Now, not when ranks are to start.
void check_mpirun(const LaunchRequest& request, const RankLayout& layout) {
  if (request.engine != Engine::kMpi) return;
  static_cast<void>(
      mpirun_arguments({.layout = layout, .here = request.hosts.empty()}));
  if (find_mpirun().empty()) {
    fail(ErrorKind::kUnsupported,
         "--engine mpi: there is no mpirun on PATH; install Open MPI "
         "(openmpi-bin), or load its module");
  }
}

/// Whether what this process may run on is what all ranks may.
bool places_are_known(const JobPlan& plan) {
  if (plan.engine == Engine::kMpi) {
    return host_names(plan.layout) == plan.host;
  }
  return plan.engine == Engine::kLocal;
}

/// What the ranks of each machine need of its memory, by its name.
std::map<std::string, std::int64_t> bytes_per_node(const JobPlan& plan) {
  const std::vector<RankShare> shares = rank_shares(plan.layout);
  std::map<std::string, std::int64_t> bytes;
  for (std::size_t i = 0; i < shares.size(); ++i) {
    bytes[plan.layout.hosts[i].name] = shares[i].of * plan.needs.rank_bytes;
  }
  return bytes;
}

std::string fits_text(const JobPlan& plan) {
  if (!plan.does_not_fit.empty()) return "no: " + plan.does_not_fit;
  if (places_are_known(plan)) return "yes";
  const std::vector<RankShare> shares = rank_shares(plan.layout);
  const auto fullest = std::max_element(
      shares.begin(), shares.end(),
      [](const RankShare& a, const RankShare& b) { return a.of < b.of; });
  const auto host = static_cast<std::size_t>(fullest - shares.begin());
  return fmt::format(
      "not known here: the fullest host, {}, needs {} for {} {}; hosts compare "
      "that with what they have when the job begins",
      plan.layout.hosts[host].name,
      bytes_text(fullest->of * plan.needs.rank_bytes), fullest->of,
      fullest->of == 1 ? "rank" : "ranks");
}

/// Of each rank, what it runs on, for people; "": it is not bound. Other
/// machines are not known here.
std::vector<std::string> places_of(const JobPlan& plan, std::string& why_not) {
  std::vector<std::string> places(static_cast<std::size_t>(plan.ranks));
  const std::vector<RankShare> shares = rank_shares(plan.layout);
  const bool here = places_are_known(plan);
  Binding binding;
  if (here && plan.bind != Bind::kNone) {
    binding = bind_ranks(machine_here(), plan.bind, shares.front().of);
  }
  why_not = binding.why_not;
  for (std::size_t i = 0; i < shares.size() && plan.bind != Bind::kNone; ++i) {
    int place = shares[i].first;
    for (const int rank : plan.layout.ranks[i]) {
      const auto at = static_cast<std::size_t>(place++);
      std::string& text = places.at(static_cast<std::size_t>(rank));
      if (!here) text = fmt::format("share {} of {}", place, shares[i].of);
      if (at >= binding.places.size()) continue;
      text = list_text(binding.places[at].processors);
    }
  }
  return places;
}

}  // namespace

std::string random_secret() {
  std::array<unsigned char, 32> bytes{};
  if (::getrandom(bytes.data(), bytes.size(), 0) !=
      static_cast<ssize_t>(bytes.size())) {
    fail(ErrorKind::kIo, "no random bytes: {}", std::strerror(errno));
  }
  std::string text;
  for (const unsigned char byte : bytes) text += fmt::format("{:02x}", byte);
  return text;
}

int make_plan(const LaunchRequest& request, JobPlan& plan) {
  plan.host = host_name();
  plan.layout = layout_of(request, plan.host);
  plan.engine = request.engine;
  plan.program = find_trainer();
  check_mpirun(request, plan.layout);
  if (const int code = check_fewer(request, plan); code != kExitSuccess) {
    return code;
  }
  std::vector<std::string> arguments =
      begin_arguments(request, request.ranks, request.dry_run);
  if (request.dry_run && places_are_known(plan)) {
    arguments.insert(arguments.end(),
                     {"--ranks-here", fmt::format("{}", request.ranks)});
  }
  const TrainerOutput begun = trainer_output(plan.program, arguments);
  if (begun.code != kExitSuccess) return begun.code;
  const Json json = Json::parse(begun.text, nullptr, false);
  if (!json.is_object()) {
    fail(ErrorKind::kInternal, "{} {} printed no JSON: is it of this version?",
         plan.program.string(), kBeginCommand);
  }
  plan.job = random_secret().substr(0, 16);
  plan.run = json.at("run").get<std::string>();
  plan.does_not_fit = json.at("does_not_fit");
  plan.needs = needs_of(json, plan.program);
  plan.ranks = request.ranks;
  plan.bind = request.bind;
  plan.arguments = {kTrainerName, "train", request.config};
  add_settings(request, plan.arguments);
  add_transport(request, plan, json.at("transport"));
  if (!request.init_from.empty()) {
    plan.arguments.insert(plan.arguments.end(),
                          {"--init-from", request.init_from});
  }
  if (!request.trace.empty()) {
    plan.arguments.insert(plan.arguments.end(), {"--trace", request.trace});
  }
  return kExitSuccess;
}

std::string plan_text(const JobPlan& plan) {
  std::string text = fmt::format("run      {}\nprogram  {}\narguments",
                                 plan.run.string(), plan.program.string());
  for (std::size_t i = 1; i < plan.arguments.size(); ++i) {
    text += " " + plan.arguments[i];
  }
  text += fmt::format("\nfits     {}\n", fits_text(plan));
  std::string why_not;
  const auto places = places_of(plan, why_not);
  if (plan.bind != Bind::kNone) {
    text += fmt::format("bind     {}{}{}\n", name_of(plan.bind),
                        why_not.empty() ? "" : ": ", why_not);
  }
  for (int rank = 0; rank < plan.ranks; ++rank) {
    const std::string& place = places.at(static_cast<std::size_t>(rank));
    text +=
        fmt::format("rank {:<4}on {}, {}{}\n", rank, host_of(plan.layout, rank),
                    place.empty() ? "" : "processors " + place + ", ",
                    rank_log(plan.run, rank).string());
  }
  return text;
}

std::string plan_json(const JobPlan& plan) {
  Json ranks = Json::array();
  std::string why_not;
  const auto places = places_of(plan, why_not);
  for (std::size_t i = 0; i < plan.layout.ranks.size(); ++i) {
    int local = 0;
    for (const int rank : plan.layout.ranks[i]) {
      const std::string& place = places.at(static_cast<std::size_t>(rank));
      ranks.push_back({{"rank", rank},
                       {"local_rank", local++},
                       {"host", plan.layout.hosts[i].name},
                       {"processors", place.empty() ? Json() : Json(place)},
                       {"log", rank_log(plan.run, rank).string()}});
    }
  }
  const Json json = {
      {"engine", name_of(plan.engine)},
      {"run", plan.run.string()},
      {"program", plan.program.string()},
      {"arguments", plan.arguments},
      {"fits",
       places_are_known(plan) ? Json(plan.does_not_fit.empty()) : Json()},
      {"does_not_fit", plan.does_not_fit},
      {"rank_bytes", plan.needs.rank_bytes},
      {"bytes_per_node", bytes_per_node(plan)},
      {"bind", name_of(plan.bind)},
      {"not_bound", why_not},
      {"ranks", ranks}};
  return json.dump(2) + "\n";
}

std::string result_json(const JobPlan& plan, const JobState& state,
                        double seconds,
                        const std::map<std::string, std::int64_t>& rejected) {
  Json restarts = Json::array();
  for (const Cause& cause : state.restarted) {
    restarts.push_back(json_of(plan, cause));
  }
  Json json = {
      {"schema", kResultSchema},
      {"job", plan.job},
      {"run", plan.run.string()},
      {"host", plan.host},
      {"ranks", state.world},
      {"state", name_of(state.phase)},
      {"generation", state.generation},
      {"exit_code", nullptr},
      {"first_failure", nullptr},
      {"restarts", restarts},
      {"rank_states", rank_states(state, state.world)},
      {"dashboard", plan.dashboard.empty() ? Json() : Json(plan.dashboard)},
      {"last_step", state.step},
      {"checkpoint_step", state.checkpoint_step},
      {"seconds", std::round(seconds * kMillisecond) / kMillisecond},
      {"control",
       {{"connections_rejected", rejected}, {"stale_messages", state.stale}}},
      {"version", CATENA_VERSION}};
  if (is_end(state.phase)) {
    json["exit_code"] = state.exit_code;
    if (state.cause) json["first_failure"] = json_of(plan, *state.cause);
  }
  // What ranks write may be no UTF-8.
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace catena::launcher
