#include "launcher/preflight/preflight.h"

#include <fmt/format.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <exception>
#include <mutex>
#include <optional>
#include <thread>

#include "launcher/preflight/machine_probe.h"
#include "runtime/base/log.h"

namespace catena::launcher {

namespace asio = boost::asio;
using std::chrono::microseconds;

namespace {

/// Looks at this machine. Its thread may never end: it is left behind then.
class OwnProbe {
 public:
  using Tell = std::function<void(const std::optional<MachineFacts>&)>;
  explicit OwnProbe(asio::io_context& context)
      : shared_(std::make_shared<Shared>()) {
    shared_->context = &context;
  }
  ~OwnProbe() {
    const std::lock_guard lock(shared_->mutex);
    shared_->context = nullptr;
  }
  OwnProbe(const OwnProbe&) = delete;
  OwnProbe& operator=(const OwnProbe&) = delete;

  void begin(const ProbeMachine& probe, const Tell& tell) {
    std::thread([shared = shared_, probe, tell] {
      const std::optional<MachineFacts> facts = look(probe);
      const std::lock_guard lock(shared->mutex);
      if (shared->context == nullptr) return;
      asio::post(*shared->context, [shared, facts, tell] {
        if (shared->context != nullptr) tell(facts);
      });
    }).detach();
  }

 private:
  struct Shared {
    std::mutex mutex;
    asio::io_context* context = nullptr;  ///< null: nobody is to be told
  };
  static std::optional<MachineFacts> look(const ProbeMachine& probe) {
    try {
      return probe_machine(probe);
    } catch (const std::exception& error) {
      log::warning("preflight: {}", error.what());
      return std::nullopt;
    }
  }

  std::shared_ptr<Shared> shared_;
};

}  // namespace

class Preflight::Service {
 public:
  Service(asio::io_context& context, PreflightOptions options, Hooks hooks)
      : hooks_(std::move(hooks)),
        state_(std::move(options)),
        timer_(context),
        own_(context),
        own_timer_(context) {}

  void begin() {
    look_here();
    act(launcher::begin(state_, now()));
  }
  void begin_alone() {
    look_here();
    alone_ = true;
    state_.there.insert(0);
    await_own();
  }
  void came(int agent) { act(launcher::came(state_, agent, now())); }
  void went(int agent, const std::string& why) {
    if (awaits_own_) {
      state_.there.erase(agent);
      state_.gone.emplace(agent, why);
      return;
    }
    act(launcher::went(state_, agent, why, now()));
  }
  void answered(int agent, const Probed& probed) {
    act(launcher::answered(state_, agent, probed, now()));
  }
  void inspect() const {
    log::info("{}", awaits_own_
                        ? "preflight waits for the launcher's own machine"
                        : waiting_text(state_, now().now));
  }

 private:
  static Moment now() {
    const auto wall = std::chrono::system_clock::now().time_since_epoch();
    return {std::chrono::steady_clock::now(),
            std::chrono::duration_cast<microseconds>(wall).count()};
  }

  void look_here() {
    own_until_ = now().now + state_.options.probe_time;
    own_.begin(state_.options.machine,
               [this](const std::optional<MachineFacts>& facts) {
                 own_answered_ = true;
                 here_ = facts;
                 if (awaits_own_) finish();
               });
  }

  /// Nothing else is waited for.
  void await_own() {
    awaits_own_ = true;
    if (own_answered_) return finish();
    own_timer_.expires_at(own_until_);
    own_timer_.async_wait([this](const boost::system::error_code& error) {
      if (!error && awaits_own_) finish();
    });
  }

  void finish() {
    awaits_own_ = false;
    own_timer_.cancel();
    if (!here_) {
      const std::chrono::duration<double> limit = state_.options.probe_time;
      const std::string what =
          fmt::format("did not answer in {:.3g} s", limit.count());
      if (alone_) state_.nodes.front().silent = "it " + what;
      log::warning("preflight: the launcher's own machine {}", what);
    } else if (alone_) {
      state_.nodes.front().machine = here_;
    }
    hooks_.done(state_, here_ && !alone_ ? &*here_ : nullptr);
  }

  void act(const PreflightActions& actions) {
    set_timer();
    for (const PreflightAction& action : actions) {
      std::visit(
          Overloaded{
              [this](const AskProbe& a) { hooks_.ask(a.agent, a.probe); },
              [](const SayWaiting& say) { log::info("{}", say.text); },
              [this](const PreflightDone&) { await_own(); }},
          action);
    }
  }

  void set_timer() {
    const auto deadline = next_deadline(state_);
    if (!deadline) {
      timer_.cancel();
      return;
    }
    timer_.expires_at(*deadline);
    timer_.async_wait([this](const boost::system::error_code& error) {
      if (!error) act(tick(state_, now()));
    });
  }

  const Hooks hooks_;
  PreflightState state_;
  asio::steady_timer timer_;
  OwnProbe own_;
  asio::steady_timer own_timer_;
  Time own_until_ = {};
  std::optional<MachineFacts> here_ = {};
  bool alone_ = false, own_answered_ = false, awaits_own_ = false;
};

Preflight::Preflight(asio::io_context& context, PreflightOptions options,
                     Hooks hooks)
    : service_(std::make_unique<Service>(context, std::move(options),
                                         std::move(hooks))) {}
Preflight::~Preflight() = default;

void Preflight::begin() { service_->begin(); }
void Preflight::begin_alone() { service_->begin_alone(); }
void Preflight::came(int agent) { service_->came(agent); }
void Preflight::went(int agent, const std::string& why) {
  service_->went(agent, why);
}
void Preflight::answered(int agent, const Probed& probed) {
  service_->answered(agent, probed);
}
void Preflight::inspect() const { service_->inspect(); }

}  // namespace catena::launcher
