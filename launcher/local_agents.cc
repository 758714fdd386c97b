#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>

#include "launcher/agents.h"
#include "runtime/base/error.h"

namespace catena::launcher {
namespace {

class LocalAgents : public Agents {
 public:
  LocalAgents(boost::asio::io_context& context, RankSetup setup, Hooks hooks)
      : context_(context),
        agent_(context, {}, std::move(setup), std::move(hooks.reported)) {}

  void start() override { agent_.start(); }
  void send(int /*agent*/, const Command& command) override {
    boost::asio::post(context_, [this, command] { agent_.receive(command); });
  }
  void replace(int agent) override {
    fail(ErrorKind::kInternal, "agent {} of this process was lost", agent);
  }

 private:
  boost::asio::io_context& context_;
  LocalAgent agent_;
};

}  // namespace

std::unique_ptr<Agents> local_agents(boost::asio::io_context& context,
                                     RankSetup setup, Agents::Hooks hooks) {
  return std::make_unique<LocalAgents>(context, std::move(setup),
                                       std::move(hooks));
}

}  // namespace catena::launcher
