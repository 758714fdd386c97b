// Any bytes as a Slurm node list, and as its counts: names that are a list of
// themselves and counts within their bounds, or Error(kConfig).

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "launcher/node_list.h"
#include "runtime/base/error.h"

namespace {

using catena::launcher::expand_node_list;
using catena::launcher::kMostHosts;

void check_names(std::string_view text) {
  const auto names = expand_node_list(text, "n");
  if (names.empty() || names.size() > kMostHosts) std::abort();
  std::string list;
  for (const std::string& name : names) {
    if (!list.empty()) list += ",";
    list += name;
  }
  if (expand_node_list(list, "n") != names) std::abort();
}

void check_counts(std::string_view text) {
  const auto counts = catena::launcher::expand_counts(text, "c");
  if (counts.empty() || counts.size() > kMostHosts) std::abort();
  for (const int count : counts) {
    if (count < 1 || count > static_cast<int>(kMostHosts)) std::abort();
  }
}

template <class Check>
void run(Check check, std::string_view text) {
  try {
    check(text);
  } catch (const catena::Error& error) {
    if (error.kind() != catena::ErrorKind::kConfig) std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  run(check_names, text);
  run(check_counts, text);
  return 0;
}
