#include <fmt/format.h>
#include <sys/wait.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <csignal>
#include <filesystem>
#include <map>
#include <set>
#include <utility>

#include "launcher/agent_process.h"
#include "launcher/agents.h"
#include "launcher/children.h"
#include "launcher/control/server.h"
#include "launcher/invitation.h"
#include "launcher/job_plan.h"
#include "runtime/base/error.h"

namespace catena::launcher {
namespace {

namespace asio = boost::asio;

/// For agents to end by themselves, when the job has.
constexpr std::chrono::seconds kFarewell(5);

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
        is_set_up_(!options_.preflight),
        hooks_(std::move(hooks)),
        secret_(random_secret()),
        children_(context),
        server_(context, control::Secret(secret_),
                {.address = options_.address,
                 .tls = options_.tls,
                 .job = job_,
                 .lease = options_.lease},
                {.connected = [this](int agent) { greet(agent); },
                 .reported = hooks_.reported,
                 .probed = hooks_.probed,
                 .lost =
                     [this](int agent, const std::string& why) {
                       connected_.erase(agent);
                       hooks_.gone(agent, why);
                     }}) {
    for (std::size_t i = 0; i < options_.shares.size(); ++i) {
      shares_[static_cast<int>(i)] = options_.shares[i];
    }
    // An agent that has ended reads no invitation.
    ::signal(SIGPIPE, SIG_IGN);
  }

  /// Their connections are closed by now or with the server: they end.
  ~RemoteAgents() override {
    server_.close();
    processes_.clear();
    children_.wait_for_all(kFarewell);
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
  void probe(int agent, const Probe& probe) override {
    server_.send(agent, probe);
  }
  void set_up(const std::map<int, RankShare>& shares) override {
    is_set_up_ = true;
    shares_ = shares;
    for (const int agent : connected_) set_up(agent);
  }
  void dismiss(int agent) override {
    const auto former = processes_.extract(agent);
    if (!former.empty()) children_.kill(former.mapped().process());
    connected_.erase(agent);
    // Nobody is invited as this one.
    server_.expect(agent, ++incarnations_[agent]);
  }
  void replace(int agent) override {
    const auto former = processes_.extract(agent);
    if (!former.empty()) children_.kill(former.mapped().process());
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
      AgentProcess process(command, write_invitation(invitation));
      children_.watch(process.process(), [this, agent](int status) {
        process_ended(agent, status);
      });
      processes_.insert_or_assign(agent, std::move(process));
    } catch (const Error& error) {
      lose_later(agent, error.what());
    }
  }

  /// Not now: the coordinator is at work, or Children.
  void lose_later(int agent, const std::string& why) {
    asio::post(context_, [this, agent, why, of = incarnations_[agent]] {
      if (incarnations_[agent] == of) hooks_.gone(agent, why);
    });
  }

  void greet(int agent) {
    connected_.insert(agent);
    if (is_set_up_) {
      set_up(agent);
    } else {
      hooks_.connected(agent);
    }
  }

  void set_up(int agent) {
    const auto share = shares_.find(agent);
    if (share == shares_.end()) return;  // it is no part of the job
    control::Setup setup = setup_;
    setup.share = share->second;
    server_.send(agent, setup);
  }

  void process_ended(int agent, int status) {
    processes_.erase(agent);
    if (connected_.contains(agent)) return;  // its connection will tell
    lose_later(
        agent,
        fmt::format(
            "{} {} before it had connected",
            options_.commands.at(static_cast<std::size_t>(agent)).front(),
            WIFSIGNALED(status)
                ? fmt::format("was killed by signal {}", WTERMSIG(status))
                : fmt::format("ended with code {}", WEXITSTATUS(status))));
  }

  asio::io_context& context_;
  const RemoteOptions options_;
  const std::string job_;
  const control::Setup setup_;
  bool is_set_up_;
  std::map<int, RankShare> shares_;
  const Hooks hooks_;
  const std::string secret_;
  Children children_;
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
