#include "launcher/remote_agent.h"

#include <sys/prctl.h>
#include <unistd.h>

#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <cerrno>
#include <csignal>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "launcher/contract.h"
#include "launcher/control/connection.h"
#include "launcher/invitation.h"
#include "launcher/local_agent.h"
#include "launcher/preflight/link_probe.h"
#include "launcher/preflight/prober.h"
#include "runtime/base/error.h"
#include "runtime/base/log.h"

namespace catena::launcher {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;
using boost::system::system_error;

constexpr std::size_t kLongestLine = 4096;
constexpr std::chrono::milliseconds kBetweenTries(500);

/// Byte by byte: what follows is not for us to take.
std::string read_line(int descriptor) {
  std::string line;
  for (char byte = 0; line.size() < kLongestLine;) {
    const ssize_t count = ::read(descriptor, &byte, 1);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0 || byte == '\n') break;
    line += byte;
  }
  return line;
}

RankSetup rank_setup(const control::Setup& setup, const std::string& job,
                     const std::string& address) {
  return {.program = setup.program,
          .arguments = setup.arguments,
          .job = job,
          .token = setup.token,
          .run = setup.run,
          .grace = setup.grace,
          .section_timeout = setup.section_timeout,
          .console_rank = setup.console_rank,
          .address = address,
          .environment = setup.environment,
          .bind = setup.bind,
          .share = setup.share};
}

class RemoteAgent {
 public:
  explicit RemoteAgent(Invitation invitation)
      : invitation_(std::move(invitation)),
        secret_(invitation_.secret),
        launcher_(asio::ip::make_address(invitation_.address),
                  invitation_.port),
        input_(context_, ::dup(STDIN_FILENO)),
        pause_(context_),
        prober_(context_,
                [this](const Probed& probed) { connection_->send(probed); }) {}

  int run() {
    watch_input();
    asio::co_spawn(context_, join(), asio::detached);
    context_.run();
    agent_.reset();
    return code_;
  }
  [[nodiscard]] bool probes() const { return prober_.busy(); }

 private:
  /// It ends when the launcher does, or what brought us here.
  void watch_input() {
    input_.async_read_some(asio::buffer(input_bytes_),
                           [this](const error_code& error, std::size_t) {
                             if (!error) return watch_input();
                             end("standard input has ended");
                           });
  }

  void end(const std::string& why) {
    if (busy_) log::warning("the launcher is lost, ranks end: {}", why);
    context_.stop();
  }

  void refuse(const std::string& why, int code) {
    log::error("{}", why);
    code_ = code;
    context_.stop();
  }

  asio::awaitable<void> join() {
    // Not as a temporary: GCC 12 would destroy it twice.
    const control::Identity identity{invitation_.job, invitation_.agent,
                                     invitation_.incarnation};
    std::string said;
    for (;;) {
      std::string why;
      try {
        connection_ = co_await control::connect(launcher_, secret_, identity,
                                                invitation_.tls);
      } catch (const Error& error) {
        refuse(error.what(), kExitRefused);
        co_return;
      } catch (const system_error& error) {
        why = error.code().message();
      }
      if (connection_) break;
      if (why != said) {
        log::warning("cannot reach the launcher at {}:{}: {}; trying again",
                     invitation_.address, invitation_.port, why);
        said = why;
      }
      pause_.expires_after(kBetweenTries);
      co_await pause_.async_wait(asio::use_awaitable);
    }
    connection_->start({.heard = [this](const control::Message& m) { hear(m); },
                        .lost = [this](const std::string& why) { end(why); }},
                       invitation_.lease);
  }

  void hear(const control::Message& message) {
    if (const auto* setup = std::get_if<control::Setup>(&message)) {
      begin(*setup);
    } else if (const auto* command = std::get_if<Command>(&message)) {
      if (std::holds_alternative<StartGeneration>(command->body)) busy_ = true;
      if (agent_) agent_->receive(*command);
    } else if (const auto* probe = std::get_if<Probe>(&message)) {
      answer(*probe);
    }
  }

  void answer(const Probe& probe) {
    const auto* listen = std::get_if<ProbeListen>(&probe.body);
    if (listen == nullptr) return prober_.ask(probe);
    const std::string here = connection_->local_address();
    try {
      links_.emplace(context_, here, listen->ticket);
      connection_->send(
          Probed{probe.number, ListenFacts{here, links_->port()}});
    } catch (const Error& error) {
      connection_->send(Probed{probe.number, ProbeFailed{error.what()}});
    }
  }

  void begin(const control::Setup& setup) {
    if (agent_) return;
    links_.reset();
    std::error_code error;
    std::filesystem::current_path(setup.directory, error);
    if (error) {
      return refuse(fmt::format("{}: {}; ranks are to start there, as the "
                                "launcher did",
                                setup.directory, error.message()),
                    kExitNotAssembled);
    }
    try {
      start_agent(setup);
    } catch (const Error& failed) {
      // Such as cores that nobody knows, where ranks are to be bound.
      refuse(failed.what(), kExitNotAssembled);
    }
  }

  void start_agent(const control::Setup& setup) {
    agent_.emplace(
        context_,
        AgentPlace{
            .number = invitation_.agent,
            .incarnation = static_cast<std::uint64_t>(invitation_.incarnation),
            .contact = contact_rules(invitation_.lease)},
        rank_setup(setup, invitation_.job, connection_->local_address()),
        [this](const Report& report) { tell(report); });
    agent_->start();
  }

  void tell(const Report& report) {
    if (std::holds_alternative<GenerationEmpty>(report.body)) busy_ = false;
    connection_->send(report);
  }

  const Invitation invitation_;
  const control::Secret secret_;
  asio::io_context context_;
  const tcp::endpoint launcher_;
  asio::posix::stream_descriptor input_;
  std::array<char, 64> input_bytes_{};
  asio::steady_timer pause_;
  Prober prober_;
  std::optional<LinkServer> links_;
  std::shared_ptr<control::Connection> connection_;
  std::optional<LocalAgent> agent_;
  bool busy_ = false;  ///< ranks may run
  int code_ = kExitSuccess;
};

}  // namespace

int run_remote_agent() {
  // They are meant for ranks, or for the launcher, which ends us otherwise: a
  // scheduler sends them to all processes that it knows.
  for (const int ignored :
       {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGPIPE, SIGTTOU}) {
    ::signal(ignored, SIG_IGN);
  }
  // Stopped or busy, it would not see its input end.
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  const Invitation invitation = read_invitation(read_line(STDIN_FILENO));
  log::set_prefix(
      fmt::format("agent {} ({}): ", invitation.agent, invitation.host));
  std::optional<log::Background> background(std::in_place);
  RemoteAgent agent(invitation);
  const int code = agent.run();
  background.reset();
  // A disk that hangs is not waited for.
  if (agent.probes()) ::_exit(code);
  return code;
}

}  // namespace catena::launcher
