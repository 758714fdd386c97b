#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <map>
#include <memory>
#include <set>

#include "launcher/agent_state.h"
#include "launcher/agents.h"
#include "launcher/children.h"
#include "launcher/commands/bound.h"
#include "launcher/contract.h"
#include "launcher/deadline_timer.h"
#include "launcher/mpi_ending.h"
#include "launcher/mpi_step.h"
#include "launcher/process_report.h"
#include "launcher/rank_process.h"
#include "runtime/base/error.h"
#include "runtime/base/log.h"

namespace catena::launcher {
namespace {

namespace asio = boost::asio;
namespace fs = std::filesystem;
using boost::system::error_code;

constexpr std::int64_t kTailBytes = 8192;
/// Longer ones are cut: nobody waits for their end.
constexpr std::size_t kLongestLine = 65536;

/// One of mpirun's two outputs: a pipe, as a launcher that is held up holds up
/// mpirun then, which keeps what ranks write, and no rank.
struct Stream {
  Stream(asio::io_context& context, int descriptor)
      : pipe(context, descriptor) {
    pipe.native_non_blocking(true);
  }
  asio::posix::stream_descriptor pipe;
  std::string said = {};  ///< the line that has not ended
};

/// mpirun, that has not been reaped.
struct Step {
  int generation = 0, world = 0, process = 0;
  bool reaped = false;
  std::vector<std::unique_ptr<Stream>> streams = {};
  std::vector<std::int64_t> log_begin = {};  ///< of each rank
  std::set<int> spoke = {};                  ///< ranks
  std::string own = {};                      ///< the end of what mpirun said
};

class MpiAgents : public Agents {
 public:
  MpiAgents(asio::io_context& context, MpiOptions options, RankSetup setup,
            Hooks hooks)
      : context_(context),
        options_(std::move(options)),
        setup_(std::move(setup)),
        hooks_(std::move(hooks)),
        state_(0, setup_.grace, setup_.section_timeout),
        children_(context),
        timer_(context) {
    adopt_orphans();
  }
  ~MpiAgents() override {
    if (!step_) return;
    children_.kill_all();
    sweep_children();
  }

  void start() override {
    tell({state_.agent, 0, AgentReady{host_names(options_.layout)}});
  }
  void send(int /*agent*/, const Command& command) override {
    asio::post(context_,
               [this, command] { act(receive(state_, command, now())); });
  }
  void replace(int agent) override {
    fail(ErrorKind::kInternal, "agent {} of this process was lost", agent);
  }

 private:
  static Time now() { return std::chrono::steady_clock::now(); }

  void tell(Report report) {
    asio::post(context_,
               [this, said = std::move(report)] { hooks_.reported(said); });
  }

  /// What is done to each rank is done once, to mpirun.
  void act(const AgentActions& actions) {
    const SpawnRank* spawned = nullptr;
    std::set<int> signals;
    for (const AgentAction& action : actions) {
      std::visit(
          Overloaded{[this](const OpenListener& a) {
                       // They find each other by mpirun.
                       act(listener_opened(state_, a.generation, "mpirun"));
                     },
                     [&](const SpawnRank& a) { spawned = &a; },
                     [&](const SignalRank& a) { signals.insert(a.signal); },
                     [&](const InspectRank& a) {
                       inspect(a);
                       signals.insert(SIGUSR2);
                     },
                     [this](const Report& report) { tell(report); }},
          action);
    }
    for (const int signal : signals) send_signal(signal);
    if (spawned != nullptr) spawn_step(*spawned);
    set_timer();
  }

  /// mpirun passes signals on to ranks on all machines, but those that end
  /// itself. Ranks take SIGALRM for SIGTERM (training/stop.h); until all are
  /// there nobody would, and there is nothing to save.
  void send_signal(int signal) const {
    if (!step_) return;
    // Who has said nothing yet would die of these.
    const bool asks = signal == SIGUSR1 || signal == SIGUSR2;
    const bool all = static_cast<int>(step_->spoke.size()) == step_->world;
    if (asks && !all) return;
    const bool group = signal == SIGKILL;
    ::kill(group ? -step_->process : step_->process,
           signal == SIGTERM && all ? SIGALRM : signal);
  }

  void set_timer() {
    timer_.set(next_deadline(state_), [this] {
      if (step_) drain(*step_);
      act(tick(state_, now()));
    });
  }

  void inspect(const InspectRank& action) {
    RankSuspected suspected = action.suspected;
    if (options_.here) suspected.text += "\n" + process_report(action.process);
    suspected.text += fmt::format(
        "\nstacks are in {} and its like, of ranks that can still write them",
        rank_log(setup_.run, suspected.rank).string());
    tell({state_.agent, action.generation, std::move(suspected)});
  }

  void spawn_step(const SpawnRank& action) {
    auto step = std::make_shared<Step>();
    step->generation = action.generation;
    step->world = action.world;
    std::error_code ignored;
    fs::create_directories(rank_log(setup_.run, 0).parent_path(), ignored);
    for (int rank = 0; rank < action.world; ++rank) {
      step->log_begin.push_back(
          begin_log(rank_log(setup_.run, rank), action.generation));
    }
    begin_log(mpirun_log(setup_.run), action.generation);
    std::array<int, 2> out{-1, -1}, err{-1, -1};
    if (::pipe2(out.data(), O_CLOEXEC) != 0 ||
        ::pipe2(err.data(), O_CLOEXEC) != 0) {
      for (const int end : out) ::close(end);
      return failed_to_spawn(*step, kExitInternal, "no pipe is left");
    }
    for (const int end : {out[0], err[0]}) {
      step->streams.push_back(std::make_unique<Stream>(context_, end));
    }
    const Spawned spawned = spawn(program_of(*step, out[1], err[1]));
    ::close(out[1]);
    ::close(err[1]);
    if (spawned.process == 0) {
      return failed_to_spawn(*step, spawned.code, spawned.why);
    }
    step->process = spawned.process;
    step_ = step;
    children_.watch(step->process, [this](int status) { step_ended(status); });
    for (auto& stream : step->streams) wait_for_words(step, *stream);
    for (int rank = 0; rank < step->world; ++rank) {
      act(rank_spawned(state_, rank, step->process, now()));
    }
  }

  [[nodiscard]] RankProgram program_of(const Step& step, int out,
                                       int err) const {
    MpiStep mpi{
        .layout = options_.layout,
        .here = options_.here,
        .command = bound_command(setup_.bind),
        .environment = {kJobVariable, kGenerationVariable,
                        kRestartCountVariable, kRunVariable, kControlVariable}};
    mpi.command.push_back(setup_.program.string());
    mpi.command.insert(mpi.command.end(), setup_.arguments.begin() + 1,
                       setup_.arguments.end());
    for (const std::string& assignment : setup_.environment) {
      mpi.environment.push_back(assignment.substr(0, assignment.find('=')));
    }
    RankProgram program{.path = options_.mpirun,
                        .arguments = mpirun_arguments(mpi),
                        .environment = job_environment(setup_, step.generation),
                        .output = out,
                        .error = err};
    program.environment.push_back(
        fmt::format("{}={}", kControlVariable, STDOUT_FILENO));
    return program;
  }

  void failed_to_spawn(const Step& step, int code, const std::string& why) {
    for (int rank = 0; rank < step.world; ++rank) {
      act(rank_reaped(state_, step.generation, rank, code, 0, why));
    }
  }

  void wait_for_words(const std::shared_ptr<Step>& step, Stream& stream) {
    stream.pipe.async_wait(asio::posix::stream_descriptor::wait_read,
                           [this, step, &stream](const error_code& error) {
                             if (error || step->reaped) return;
                             if (listen(*step, stream)) {
                               wait_for_words(step, stream);
                             }
                           });
  }

  void drain(Step& step) {
    for (auto& stream : step.streams) static_cast<void>(listen(step, *stream));
  }

  /// Takes what has been written. Returns whether more may be.
  bool listen(Step& step, Stream& stream) {
    std::array<char, 65536> part;
    for (;;) {
      const ssize_t count =
          ::read(stream.pipe.native_handle(), part.data(), part.size());
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) return errno == EAGAIN;
      if (count == 0 && !stream.said.empty()) stream.said += '\n';
      stream.said.append(part.data(), static_cast<std::size_t>(count));
      take_lines(step, stream.said);
      if (count == 0) return false;
    }
  }

  void take_lines(Step& step, std::string& said) {
    std::map<fs::path, std::string> logs;
    std::size_t begin = 0;
    for (auto end = said.find('\n'); end != std::string::npos;
         end = said.find('\n', begin)) {
      take_line(step, std::string_view(said).substr(begin, end - begin), logs);
      begin = end + 1;
    }
    said.erase(0, begin);
    if (said.size() > kLongestLine) {
      take_line(step, said, logs);
      said.clear();
    }
    for (const auto& [path, text] : logs) append(path, text);
  }

  void take_line(Step& step, std::string_view line,
                 std::map<fs::path, std::string>& logs) {
    const MpiLine said = parse_mpi_line(line);
    if (said.rank < 0) {
      (step.own += said.text) += '\n';
      if (step.own.size() > 2 * kTailBytes) step.own.erase(0, kTailBytes);
      (logs[mpirun_log(setup_.run)] += said.text) += '\n';
    } else if (said.rank < step.world && said.output) {
      hear(step, said.rank, said.text);
    } else if (said.rank < step.world) {
      (logs[rank_log(setup_.run, said.rank)] += said.text) += '\n';
      if (said.rank == setup_.console_rank)
        log::show(fmt::format("{}\n", said.text));
    }
  }

  void hear(Step& step, int rank, std::string_view line) {
    step.spoke.insert(rank);
    if (line.starts_with(kSaidProcess)) {
      line.remove_prefix(std::string_view(kSaidProcess).size());
      const auto at = state_.ranks.find(rank);
      if (at == state_.ranks.end()) return;
      std::from_chars(line.data(), line.data() + line.size(),
                      at->second.ending.process);
      return;
    }
    act(rank_said(state_, step.generation, rank, line, now()));
  }

  static void append(const fs::path& path, const std::string& text) {
    if (std::FILE* file = std::fopen(path.c_str(), "ae")) {
      std::fwrite(text.data(), 1, text.size(), file);
      std::fclose(file);
    }
  }

  /// Ranks of this machine that mpirun has left are children of ours by now.
  void step_ended(int status) {
    const std::shared_ptr<Step> step = std::move(step_);
    step->reaped = true;
    sweep_children();
    drain(*step);
    for (const MpiEnding& ending :
         endings_of({.status = status, .said = step->own, .spoke = step->spoke},
                    state_.ranks)) {
      const std::string words =
          tail_of(rank_log(setup_.run, ending.rank),
                  step->log_begin.at(static_cast<std::size_t>(ending.rank)),
                  kTailBytes);
      act(rank_reaped(state_, step->generation, ending.rank, ending.code,
                      ending.signal,
                      words.empty() || ending.unnamed ? ending.words : words));
    }
  }

  asio::io_context& context_;
  const MpiOptions options_;
  const RankSetup setup_;
  const Hooks hooks_;
  AgentState state_;
  Children children_;
  DeadlineTimer timer_;
  std::shared_ptr<Step> step_;
};

}  // namespace

std::unique_ptr<Agents> mpi_agents(asio::io_context& context,
                                   MpiOptions options, RankSetup setup,
                                   Agents::Hooks hooks) {
  return std::make_unique<MpiAgents>(context, std::move(options),
                                     std::move(setup), std::move(hooks));
}

}  // namespace catena::launcher
