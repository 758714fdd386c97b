#include "launcher/invitation.h"

#include <nlohmann/json.hpp>

#include "launcher/control/handshake.h"
#include "runtime/base/error.h"

namespace catena::launcher {

using Json = nlohmann::json;
using std::chrono::milliseconds;

std::string write_invitation(const Invitation& invitation) {
  const Json json = {
      {"version", control::kProtocolVersion},
      {"address", invitation.address},
      {"port", invitation.port},
      {"job", invitation.job},
      {"secret", invitation.secret},
      {"tls", invitation.tls},
      {"agent", invitation.agent},
      {"incarnation", invitation.incarnation},
      {"host", invitation.host},
      {"lease_milliseconds",
       std::chrono::ceil<milliseconds>(invitation.lease).count()}};
  return json.dump(-1, ' ', true);
}

Invitation read_invitation(const std::string& line) {
  const Json json = Json::parse(line, nullptr, false);
  try {
    if (json.at("version") != control::kProtocolVersion) {
      fail(ErrorKind::kUsage,
           "the launcher speaks version {} of the protocol and this agent "
           "version {}: install the same catena on both",
           json.at("version").dump(), control::kProtocolVersion);
    }
    return {.address = json.at("address"),
            .port = json.at("port"),
            .job = json.at("job"),
            .secret = json.at("secret"),
            .tls = json.at("tls"),
            .agent = json.at("agent"),
            .incarnation = json.at("incarnation"),
            .host = json.at("host"),
            .lease = milliseconds(
                json.at("lease_milliseconds").get<std::int64_t>())};
  } catch (const Json::exception&) {
    // What was read may hold a secret: it is not said.
    fail(ErrorKind::kUsage,
         "catena agent is started by catena launch, which tells it on standard "
         "input where to go; this is something else");
  }
}

}  // namespace catena::launcher
