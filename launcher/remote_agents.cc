#include <fmt/format.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/signal_set.hpp>
#include <csignal>
#include <filesystem>
#include <iterator>
#include <map>
#include <set>
#include <thread>

#include "launcher/agent_process.h"
#include "launcher/agents.h"
#include "launcher/control/server.h"
#include "launcher/invitation.h"
#include "launcher/job_plan.h"
#include "runtime/base/error.h"

namespace catena::launcher {
namespace {

namespace asio = boost::asio;

/// For agents to end by themselves, when the job has.
constexpr std::chrono::seconds kFarewell(5);
constexpr std::chrono::milliseconds kGlance(5);

/// Throws: Usage where no message can hold it.
control::Setup setup_of(const RankSetup& setup) {
  control::Setup said = {
      .program = setup.program.string(),
      .arguments = setup.arguments,
      .environment = setup.environment,
      .token = setup.token,
      .run = setup.run.string(),
      .directory = std::filesystem::current_path().string(),
      .grace = std::chrono::ceil<std::chrono::milliseconds>(setup.grace),
      .section_timeout =
          std::chrono::ceil<std::chrono::milliseconds>(setup.section_timeout),
      .console_rank = setup.console_rank,
      .bind = setup.bind};
  try {
    static_cast<void>(control::read(control::write(said)));
  } catch (const Error& error) {
    fail(ErrorKind::kUsage,
         "agents cannot be told what ranks are started with: {}; have fewer or "
         "shorter --env and --set",
         error.what());
  }
  return said;
}

class RemoteAgents : public Agents {
 public:
  RemoteAgents(asio::io_context& context, RemoteOptions options,
               const RankSetup& setup, Hooks hooks)
      : context_(context),
        options_(std::move(options)),
        job_(setup.job),
        setup_(setup_of(setup)),
        hooks_(std::move(hooks)),
        secret_(random_secret()),
        children_(context, SIGCHLD),
        server_(context, control::Secret(secret_),
                {.address = options_.address,
                 .tls = options_.tls,
                 .job = job_,
                 .lease = options_.lease},
                {.connected = [this](int agent) { greet(agent); },
                 .reported = hooks_.reported,
                 .lost =
                     [this](int agent, const std::string& why) {
                       connected_.erase(agent);
                       hooks_.gone(agent, why);
                     }}) {
    // An agent that has ended reads no invitation.
    ::signal(SIGPIPE, SIG_IGN);
    wait_for_children();
  }

  /// Their connections are closed by now or with the server: they end.
  ~RemoteAgents() override {
    server_.close();
    for (auto& [agent, process] : processes_) process.dismiss();
    const auto until = std::chrono::steady_clock::now() + kFarewell;
    while (!processes_.empty() && std::chrono::steady_clock::now() < until) {
      std::string how;
      for (auto at = processes_.begin(); at != processes_.end();) {
        at = at->second.reap(how) ? processes_.erase(at) : std::next(at);
      }
      std::this_thread::sleep_for(kGlance);
    }
  }

  void start() override {
    for (int agent = 0; agent < static_cast<int>(options_.commands.size());
         ++agent) {
      invite(agent);
    }
  }
  void send(int agent, const Command& command) override {
    server_.send(agent, command);
  }
  void replace(int agent) override {
    processes_.erase(agent);
    invite(agent);
  }

  [[nodiscard]] std::map<std::string, std::int64_t> rejected() const override {
    return server_.rejected();
  }

 private:
  void invite(int agent) {
    connected_.erase(agent);
    const int incarnation = ++incarnations_[agent];
    server_.expect(agent, incarnation);
    const auto& command = options_.commands.at(static_cast<std::size_t>(agent));
    const Invitation invitation{
        .address = options_.address,
        .port = server_.port(),
        .job = job_,
        .secret = secret_,
        .tls = options_.tls,
        .agent = agent,
        .incarnation = incarnation,
        .host = options_.hosts.at(static_cast<std::size_t>(agent)),
        .lease = options_.lease};
    try {
      processes_.insert_or_assign(
          agent, AgentProcess(command, write_invitation(invitation)));
    } catch (const Error& error) {
      lose_later(agent, error.what());
    }
  }

  /// Not now: coordinator or a loop over processes are at work.
  void lose_later(int agent, const std::string& why) {
    asio::post(context_, [this, agent, why, of = incarnations_[agent]] {
      if (incarnations_[agent] == of) hooks_.gone(agent, why);
    });
  }

  void greet(int agent) {
    connected_.insert(agent);
    control::Setup setup = setup_;
    setup.share = options_.shares.at(static_cast<std::size_t>(agent));
    server_.send(agent, setup);
  }

  void wait_for_children() {
    children_.async_wait([this](const boost::system::error_code& error, int) {
      if (error) return;
      reap_all();
      wait_for_children();
    });
  }

  /// One SIGCHLD may stand for several.
  void reap_all() {
    for (auto at = processes_.begin(); at != processes_.end();) {
      const int agent = at->first;
      std::string how;
      if (!at->second.reap(how)) {
        ++at;
        continue;
      }
      at = processes_.erase(at);
      // Else its connection will tell.
      if (!connected_.contains(agent)) {
        lose_later(
            agent,
            fmt::format(
                "{} {} before it had connected",
                options_.commands.at(static_cast<std::size_t>(agent)).front(),
                how));
      }
    }
  }

  asio::io_context& context_;
  const RemoteOptions options_;
  const std::string job_;
  const control::Setup setup_;
  const Hooks hooks_;
  const std::string secret_;
  asio::signal_set children_;
  std::map<int, AgentProcess> processes_;
  std::map<int, int> incarnations_;  ///< of each agent, the last one
  std::set<int> connected_;
  control::Server server_;
};

}  // namespace

std::unique_ptr<Agents> remote_agents(asio::io_context& context,
                                      RemoteOptions options,
                                      const RankSetup& setup,
                                      Agents::Hooks hooks) {
  return std::make_unique<RemoteAgents>(context, std::move(options), setup,
                                        std::move(hooks));
}

}  // namespace catena::launcher
