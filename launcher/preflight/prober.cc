#include "launcher/preflight/prober.h"

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <chrono>
#include <exception>

#include "launcher/messages.h"
#include "launcher/preflight/link_probe.h"
#include "launcher/preflight/machine_probe.h"

namespace catena::launcher {
namespace {

using std::chrono::microseconds;
using std::chrono::system_clock;

decltype(Probed::body) answer(const Probe& probe) {
  try {
    return std::visit(
        Overloaded{[](const ProbeClock&) -> decltype(Probed::body) {
                     const auto now = system_clock::now().time_since_epoch();
                     return ClockFacts{
                         std::chrono::duration_cast<microseconds>(now).count()};
                   },
                   [](const ProbeMachine& p) -> decltype(Probed::body) {
                     return probe_machine(p);
                   },
                   [](const ProbeCompute&) -> decltype(Probed::body) {
                     return probe_compute();
                   },
                   [](const ProbeListen&) -> decltype(Probed::body) {
                     return ProbeFailed{"it does not listen"};
                   },
                   [](const ProbeLink& p) -> decltype(Probed::body) {
                     return probe_link(p);
                   }},
        probe.body);
  } catch (const std::exception& error) {
    return ProbeFailed{error.what()};
  }
}

}  // namespace

Prober::Prober(boost::asio::io_context& context, Tell tell)
    : context_(context), tell_(std::move(tell)) {}

Prober::~Prober() {
  if (thread_.joinable()) thread_.join();
}

void Prober::ask(const Probe& probe) {
  waiting_.push_back(probe);
  if (waiting_.size() == 1) work();
}

void Prober::work() {
  thread_ = std::thread([this, probe = waiting_.front()] {
    const Probed probed{probe.number, answer(probe)};
    boost::asio::post(context_, [this, probed] { finish(probed); });
  });
}

void Prober::finish(const Probed& probed) {
  thread_.join();
  waiting_.pop_front();
  tell_(probed);
  if (!waiting_.empty()) work();
}

}  // namespace catena::launcher
