#include "launcher/preflight/prober.h"

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <chrono>
#include <deque>
#include <exception>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>
#include <utility>

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

struct Prober::Shared {
  Shared(boost::asio::io_context& its_context, Tell its_tell)
      : tell(std::move(its_tell)), context(&its_context) {}

  const Tell tell;
  std::deque<Probe> waiting;  ///< the first one is under way
  std::mutex mutex;
  boost::asio::io_context* context;  ///< null: nobody is to be told
};

Prober::Prober(boost::asio::io_context& context, Tell tell)
    : shared_(std::make_shared<Shared>(context, std::move(tell))) {}

Prober::~Prober() {
  const std::lock_guard lock(shared_->mutex);
  shared_->context = nullptr;
}

void Prober::ask(const Probe& probe) {
  shared_->waiting.push_back(probe);
  if (shared_->waiting.size() == 1) work(shared_);
}

bool Prober::busy() const { return !shared_->waiting.empty(); }

void Prober::work(const std::shared_ptr<Shared>& shared) {
  const Probe probe = shared->waiting.front();
  const auto answered = [shared](const Probed& probed) {
    const std::lock_guard lock(shared->mutex);
    if (shared->context == nullptr) return;
    boost::asio::post(*shared->context,
                      [shared, probed] { finish(shared, probed); });
  };
  try {
    std::thread([probe, answered] {
      answered({probe.number, answer(probe)});
    }).detach();
  } catch (const std::system_error& error) {
    answered(
        {probe.number, ProbeFailed{std::string("no thread: ") + error.what()}});
  }
}

void Prober::finish(const std::shared_ptr<Shared>& shared,
                    const Probed& probed) {
  if (shared->context == nullptr) return;
  shared->waiting.pop_front();
  if (!shared->waiting.empty()) work(shared);
  shared->tell(probed);
}

}  // namespace catena::launcher
