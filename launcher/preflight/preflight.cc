#include "launcher/preflight/preflight.h"

#include <fmt/format.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <optional>

#include "launcher/deadline_timer.h"
#include "launcher/preflight/prober.h"
#include "runtime/base/log.h"

namespace catena::launcher {

namespace asio = boost::asio;
using std::chrono::microseconds;

class Preflight::Service {
 public:
  Service(asio::io_context& context, PreflightOptions options, Hooks hooks)
      : hooks_(std::move(hooks)),
        state_(std::move(options)),
        timer_(context),
        own_(context, [this](const Probed& probed) { heard_own(probed); }),
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
    own_.ask({0, state_.options.machine});
  }
  void heard_own(const Probed& probed) {
    own_answered_ = true;
    if (const auto* facts = std::get_if<MachineFacts>(&probed.body)) {
      here_ = *facts;
    } else if (const auto* failed = std::get_if<ProbeFailed>(&probed.body)) {
      log::warning("preflight: {}", failed->why);
    }
    if (awaits_own_) finish();
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
    timer_.set(next_deadline(state_), [this] { act(tick(state_, now())); });
  }

  const Hooks hooks_;
  PreflightState state_;
  DeadlineTimer timer_;
  Prober own_;
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
