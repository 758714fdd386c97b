#include "launcher/coordinator.h"

#include <boost/asio/io_context.hpp>

#include "launcher/deadline_timer.h"
#include "launcher/job_layout.h"
#include "launcher/job_text.h"
#include "runtime/base/log.h"

namespace catena::launcher {

namespace asio = boost::asio;

class Coordinator::Service {
 public:
  Service(asio::io_context& context, JobOptions options, Hooks hooks)
      : hooks_(std::move(hooks)), state_(std::move(options)), timer_(context) {}

  void begin(Time since, Time launched) {
    see_checkpoint();
    act(launcher::begin(state_, since, launched));
  }
  void receive(const Report& report) {
    if (may_end_generation(report)) see_checkpoint();
    act(launcher::receive(state_, report, now()));
  }
  void agent_gone(int agent, const std::string& why) {
    act(launcher::agent_gone(state_, agent, why, now()));
  }
  void stop(int signal) {
    see_checkpoint();
    act(stop_requested(state_, signal, now()));
  }
  void save() { act(save_requested(state_, now())); }
  void inspect() {
    see_checkpoint();
    act(inspect_requested(state_, now()));
  }
  [[nodiscard]] const JobState& state() const { return state_; }

 private:
  static Time now() { return std::chrono::steady_clock::now(); }

  void see_checkpoint() { checkpoint_seen(state_, hooks_.checkpoint_step()); }

  /// Looking for checkpoints takes time, and heartbeats are many.
  [[nodiscard]] bool may_end_generation(const Report& report) const {
    const auto* beat = std::get_if<Heartbeat>(&report.body);
    if (beat != nullptr) {
      return beat->empty && !state_.empty.contains(report.agent);
    }
    return std::holds_alternative<GenerationEmpty>(report.body) ||
           std::holds_alternative<AgentReady>(report.body);
  }
  [[nodiscard]] bool loses_agent() const {
    for (int agent = 0; agent < agent_count(state_); ++agent) {
      if (state_.contacts.lost(agent, now())) return true;
    }
    return false;
  }

  [[nodiscard]] bool ends_in_time() const {
    return state_.job_until && *state_.job_until <= now();
  }

  void act(const JobActions& actions) {
    for (const JobAction& action : actions) {
      std::visit(
          Overloaded{
              [this](const SendCommand& a) { hooks_.send(a.agent, a.command); },
              [this](const ReplaceAgent& a) { hooks_.replace(a.agent); },
              [](const Say& say) {
                if (say.bad) {
                  log::error("{}", say.text);
                } else {
                  log::info("{}", say.text);
                }
              },
              [this](const Moved& moved) { hooks_.moved(state_, moved); },
              [this](const RankEnded& ended) { hooks_.rank_ended(ended); },
              [](const Finish&) {}},
          action);
    }
    if (state_.phase != shown_ || state_.generation != shown_generation_) {
      shown_ = state_.phase;
      shown_generation_ = state_.generation;
      hooks_.changed(state_);
    }
    set_timer();
  }

  void set_timer() {
    timer_.set(next_deadline(state_), [this] {
      if (loses_agent() || ends_in_time()) see_checkpoint();
      act(tick(state_, now()));
    });
  }

  const Hooks hooks_;
  JobState state_;
  JobPhase shown_ = JobPhase::kNew;
  int shown_generation_ = 0;
  DeadlineTimer timer_;
};

Coordinator::Coordinator(asio::io_context& context, JobOptions options,
                         Hooks hooks)
    : service_(std::make_unique<Service>(context, std::move(options),
                                         std::move(hooks))) {}
Coordinator::~Coordinator() = default;

void Coordinator::begin(Time since, Time launched) {
  service_->begin(since, launched);
}
void Coordinator::receive(const Report& report) { service_->receive(report); }
void Coordinator::agent_gone(int agent, const std::string& why) {
  service_->agent_gone(agent, why);
}
void Coordinator::stop(int signal) { service_->stop(signal); }
void Coordinator::save() { service_->save(); }
void Coordinator::inspect() { service_->inspect(); }
const JobState& Coordinator::state() const { return service_->state(); }

}  // namespace catena::launcher
