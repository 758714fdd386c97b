#include "launcher/local_agent.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <csignal>
#include <optional>

#include "launcher/binding.h"
#include "launcher/children.h"
#include "launcher/console.h"
#include "launcher/contract.h"
#include "launcher/deadline_timer.h"
#include "launcher/process_report.h"
#include "launcher/rank_process.h"
#include "runtime/base/error.h"
#include "runtime/base/lease.h"
#include "runtime/base/log.h"

namespace catena::launcher {

namespace asio = boost::asio;
namespace fs = std::filesystem;
using boost::system::error_code;

namespace {

constexpr std::int64_t kTailBytes = 8192;
constexpr std::size_t kLongestLine = 256;
constexpr std::chrono::milliseconds kGlance(100);

/// A rank's process that has not been reaped.
struct Process {
  Process(asio::io_context& context, int descriptor)
      : control(context, descriptor) {}
  int generation = 0, rank = 0;
  bool reaped = false;
  asio::posix::stream_descriptor control;
  std::optional<Lease> lease = {};  ///< that it lives by, if there is one
  std::string said = {};            ///< the line that has not ended
  std::int64_t log_begin = 0;
};

Binding binding_of(const RankSetup& setup) {
  if (setup.bind == Bind::kNone) return {};
  return bind_ranks(machine_here(), setup.bind, setup.share.of);
}

std::string host_name() {
  std::array<char, 256> name{};
  ::gethostname(name.data(), name.size() - 1);
  return name.data();
}

}  // namespace

class LocalAgent::Service {
 public:
  Service(asio::io_context& context, const AgentPlace& place, RankSetup setup,
          Tell tell)
      : context_(context),
        setup_(std::move(setup)),
        binding_(binding_of(setup_)),
        tell_(std::move(tell)),
        state_(place.number, setup_.grace, setup_.section_timeout,
               place.contact),
        children_(context),
        timer_(context),
        glance_(context) {
    state_.incarnation = place.incarnation;
    adopt_orphans();
  }
  ~Service() {
    children_.kill_all();
    sweep_children();
    remove_shared_memory(setup_.job);
    show_the_rest();
  }
  Service(const Service&) = delete;
  Service& operator=(const Service&) = delete;

  void start() {
    if (!binding_.why_not.empty()) {
      log::warning("--bind {}: {}", name_of(setup_.bind), binding_.why_not);
    }
    heard_ = boot_time();
    begin(state_, now());
    tell({state_.agent, 0, AgentReady{host_name()}, state_.incarnation});
    set_timer();
  }
  void receive(const Command& command) {
    heard_ = boot_time();
    for (const auto& process : processes_) {
      if (process->lease) process->lease->renew(heard_);
    }
    act(launcher::receive(state_, command, now()));
  }

 private:
  static Time now() { return std::chrono::steady_clock::now(); }

  /// Later, so that neither side is called while it is at work.
  void tell(Report report) {
    asio::post(context_, [this, said = std::move(report)] { tell_(said); });
  }

  void act(const AgentActions& actions) {
    for (const AgentAction& action : actions) {
      std::visit(Overloaded{[this](const OpenListener& a) { open_listener(a); },
                            [this](const SpawnRank& a) { spawn_rank(a); },
                            [](const SignalRank& a) {
                              const bool group = a.signal == SIGKILL;
                              ::kill(group ? -a.process : a.process, a.signal);
                            },
                            [this](const InspectRank& a) { inspect(a); },
                            [this](const Report& report) { tell(report); }},
                 action);
    }
    set_timer();
  }

  void set_timer() {
    timer_.set(next_deadline(state_), [this] {
      // What was said before is no silence, however late it is read.
      for (const auto& process : processes_) {
        static_cast<void>(listen(*process));
      }
      act(tick(state_, now()));
    });
  }

  void inspect(const InspectRank& action) {
    RankSuspected suspected = action.suspected;
    suspected.text += "\n" + process_report(action.process);
    using Verdict = RankSuspected::Verdict;
    if (suspected.verdict != Verdict::kHung) {
      ::kill(action.process, SIGUSR2);
      suspected.text +=
          fmt::format("\nits own stack is in {} if it can still write it",
                      rank_log(setup_.run, suspected.rank).string());
    }
    tell({state_.agent, action.generation, std::move(suspected),
          state_.incarnation});
  }

  /// Held before anybody is told of it, and handed down to rank 0.
  void open_listener(const OpenListener& action) {
    try {
      listener_.emplace(
          context_,
          asio::ip::tcp::endpoint(asio::ip::make_address(setup_.address), 0));
    } catch (const boost::system::system_error& error) {
      log::error("no port of {} for the ranks to meet at: {}", setup_.address,
                 error.what());
      return;  // the coordinator's deadline for the start passes
    }
    const bool colons = setup_.address.find(':') != std::string::npos;
    act(listener_opened(
        state_, action.generation,
        fmt::format(fmt::runtime(colons ? "[{}]:{}" : "{}:{}"), setup_.address,
                    listener_->local_endpoint().port())));
  }

  void spawn_rank(const SpawnRank& action) {
    const fs::path log = rank_log(setup_.run, action.rank);
    std::error_code ignored;
    fs::create_directories(log.parent_path(), ignored);
    std::array<int, 2> ends{-1, -1};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) {
      return failed_to_spawn(action, kExitInternal, "no pipe is left");
    }
    auto process = std::make_shared<Process>(context_, ends[0]);
    process->control.native_non_blocking(true);
    process->generation = action.generation;
    process->rank = action.rank;
    try {
      if (state_.contact.on()) {
        process->lease.emplace(state_.contact.rank_lease(), heard_);
      }
    } catch (const Error& error) {
      ::close(ends[1]);
      return failed_to_spawn(action, kExitInternal, error.what());
    }
    // Another agent may have had this rank, and shown what it wrote.
    if (action.rank == setup_.console_rank) console_.emplace(log);
    const Binding::Place* const place = place_of(action);
    process->log_begin =
        begin_log(log, action.generation,
                  place == nullptr
                      ? ""
                      : "bound to processors " + list_text(place->processors));
    RankProgram program{.path = setup_.program,
                        .arguments = setup_.arguments,
                        .environment = rank_environment(setup_, action),
                        .log = log};
    hand_down(program, kControlVariable, ends[1]);
    if (place != nullptr) {
      program.processors = place->processors;
      program.environment.push_back(
          fmt::format("{}={}", kSharersVariable, place->sharers));
    }
    if (process->lease) {
      hand_down(program, kLeaseVariable, process->lease->descriptor());
    }
    const bool serves = action.rank == 0 && listener_.has_value();
    if (serves) {
      hand_down(program, kRendezvousFdVariable, listener_->native_handle());
    }
    const Spawned spawned = spawn(program);
    ::close(ends[1]);
    if (serves) listener_.reset();
    if (spawned.process == 0) {
      return failed_to_spawn(action, spawned.code, spawned.why);
    }
    children_.watch(spawned.process, [this, process](int status) {
      rank_ended(process, status);
    });
    processes_.push_back(process);
    wait_for_words(process);
    if (action.rank == setup_.console_rank && !glancing_) glance();
    act(rank_spawned(state_, action.rank, spawned.process, now()));
  }

  static void hand_down(RankProgram& program, const char* variable,
                        int descriptor) {
    program.descriptors.push_back(descriptor);
    program.environment.push_back(fmt::format("{}={}", variable, descriptor));
  }

  /// Null: it is not bound.
  [[nodiscard]] const Binding::Place* place_of(const SpawnRank& action) const {
    const auto place =
        static_cast<std::size_t>(setup_.share.first + action.local_rank);
    if (place >= binding_.places.size()) return nullptr;
    return &binding_.places[place];
  }

  void failed_to_spawn(const SpawnRank& action, int code,
                       const std::string& why) {
    act(rank_reaped(state_, action.generation, action.rank, code, 0, why));
  }

  void wait_for_words(const std::shared_ptr<Process>& process) {
    process->control.async_wait(asio::posix::stream_descriptor::wait_read,
                                [this, process](const error_code& error) {
                                  if (error || process->reaped) return;
                                  if (listen(*process)) wait_for_words(process);
                                });
  }

  /// Takes what it has said. Returns whether it may say more.
  bool listen(Process& process) {
    std::array<char, 4096> part;
    for (;;) {
      const ssize_t count =
          ::read(process.control.native_handle(), part.data(), part.size());
      if (count == 0) return false;
      if (count < 0) return errno == EAGAIN || errno == EINTR;
      process.said.append(part.data(), static_cast<std::size_t>(count));
      for (auto end = process.said.find('\n'); end != std::string::npos;
           end = process.said.find('\n')) {
        act(rank_said(state_, process.generation, process.rank,
                      std::string_view(process.said).substr(0, end), now()));
        process.said.erase(0, end + 1);
      }
      if (process.said.size() > kLongestLine) return false;
    }
  }

  void rank_ended(const std::shared_ptr<Process>& process, int status) {
    std::erase(processes_, process);
    process->reaped = true;
    static_cast<void>(listen(*process));
    if (processes_.empty()) {
      sweep_children();
      remove_shared_memory(setup_.job);
    }
    if (process->rank == setup_.console_rank) {
      show_the_rest();
      console_.reset();
    }
    const bool killed = WIFSIGNALED(status);
    act(rank_reaped(state_, process->generation, process->rank,
                    killed ? 0 : WEXITSTATUS(status),
                    killed ? WTERMSIG(status) : 0,
                    tail_of(rank_log(setup_.run, process->rank),
                            process->log_begin, kTailBytes)));
  }

  void show_the_rest() {
    while (console_ && console_->copy()) {
    }
  }

  void glance() {
    glancing_ = true;
    glance_.expires_after(kGlance);
    glance_.async_wait([this](const error_code& error) {
      glancing_ = false;
      if (error) return;
      if (console_) console_->copy();
      if (!processes_.empty()) glance();
    });
  }

  asio::io_context& context_;
  const RankSetup setup_;
  const Binding binding_;
  const Tell tell_;
  AgentState state_;
  Children children_;
  DeadlineTimer timer_;
  asio::steady_timer glance_;
  BootTime heard_{};  ///< when the coordinator last was
  bool glancing_ = false;
  std::optional<Console> console_;  ///< of a rank that runs or ran here
  std::optional<asio::ip::tcp::acceptor> listener_;
  std::vector<std::shared_ptr<Process>> processes_;
};

LocalAgent::LocalAgent(asio::io_context& context, AgentPlace place,
                       RankSetup setup, Tell tell)
    : service_(std::make_unique<Service>(context, place, std::move(setup),
                                         std::move(tell))) {}
LocalAgent::~LocalAgent() = default;

void LocalAgent::start() { service_->start(); }
void LocalAgent::receive(const Command& command) { service_->receive(command); }

}  // namespace catena::launcher
