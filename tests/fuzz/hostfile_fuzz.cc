// Any bytes as a hostfile and as what --hosts says: hosts that say the same
// when they are written again, or Error(kConfig).

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "launcher/hosts.h"
#include "launcher/node_list.h"
#include "runtime/base/error.h"

namespace {

using catena::launcher::Host;
using catena::launcher::parse_hosts;

void check(const std::vector<Host>& hosts) {
  if (hosts.empty() || hosts.size() > catena::launcher::kMostHosts) {
    std::abort();
  }
  for (const Host& host : hosts) {
    if (host.name.empty() || host.name.front() == '-') std::abort();
    if (host.user.starts_with('-')) std::abort();
  }
  if (parse_hosts(hosts_text(hosts), "h") != hosts) std::abort();
}

template <class Parse>
void run(Parse parse) {
  try {
    check(parse());
  } catch (const catena::Error& error) {
    if (error.kind() != catena::ErrorKind::kConfig) std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  run([&] { return catena::launcher::parse_hostfile(text, "f"); });
  run([&] { return parse_hosts(text, "h"); });
  return 0;
}
