#include "launcher/preflight/preflight.h"

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>

#include "runtime/base/log.h"

namespace catena::launcher {

namespace asio = boost::asio;
using std::chrono::microseconds;

class Preflight::Service {
 public:
  Service(asio::io_context& context, PreflightOptions options, Hooks hooks)
      : hooks_(std::move(hooks)), state_(std::move(options)), timer_(context) {}

  void begin() { act(launcher::begin(state_, now())); }
  void came(int agent) { act(launcher::came(state_, agent, now())); }
  void went(int agent, const std::string& why) {
    act(launcher::went(state_, agent, why, now()));
  }
  void answered(int agent, const Probed& probed) {
    act(launcher::answered(state_, agent, probed, now()));
  }
  void inspect() const { log::info("{}", waiting_text(state_, now().now)); }

 private:
  static Moment now() {
    const auto wall = std::chrono::system_clock::now().time_since_epoch();
    return {std::chrono::steady_clock::now(),
            std::chrono::duration_cast<microseconds>(wall).count()};
  }

  void act(const PreflightActions& actions) {
    set_timer();
    for (const PreflightAction& action : actions) {
      std::visit(
          Overloaded{
              [this](const AskProbe& a) { hooks_.ask(a.agent, a.probe); },
              [](const SayWaiting& say) { log::info("{}", say.text); },
              [this](const PreflightDone&) { hooks_.done(state_); }},
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
};

Preflight::Preflight(asio::io_context& context, PreflightOptions options,
                     Hooks hooks)
    : service_(std::make_unique<Service>(context, std::move(options),
                                         std::move(hooks))) {}
Preflight::~Preflight() = default;

void Preflight::begin() { service_->begin(); }
void Preflight::came(int agent) { service_->came(agent); }
void Preflight::went(int agent, const std::string& why) {
  service_->went(agent, why);
}
void Preflight::answered(int agent, const Probed& probed) {
  service_->answered(agent, probed);
}
void Preflight::inspect() const { service_->inspect(); }

}  // namespace catena::launcher
