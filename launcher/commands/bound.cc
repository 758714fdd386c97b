#include "launcher/commands/bound.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "launcher/contract.h"
#include "launcher/engines.h"
#include "runtime/base/error.h"
#include "runtime/base/log.h"

namespace catena::launcher {
namespace {

int number_from_mpirun(const char* name, int least) {
  const char* said = std::getenv(name);
  const std::string_view text = said == nullptr ? "" : said;
  int number = -1;
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size() ||
      number < least) {
    fail(ErrorKind::kUsage,
         "--bind: {} is '{}', and mpirun should have said a number of {} or "
         "more: is it Open MPI's? Else leave ranks unbound (--bind none)",
         name, text, least);
  }
  return number;
}

}  // namespace

std::vector<std::string> bound_command(Bind how) {
  if (how == Bind::kNone) return {};
  return {own_path(), kBoundCommand, name_of(how)};
}

void run_bound(const std::vector<std::string>& arguments) {
  if (arguments.size() < 2) {
    fail(ErrorKind::kUsage,
         "catena {} HOW PROGRAM [ARGUMENT]...: `catena launch --bind` calls it",
         kBoundCommand);
  }
  const int rank = number_from_mpirun("OMPI_COMM_WORLD_LOCAL_RANK", 0);
  const int ranks = number_from_mpirun("OMPI_COMM_WORLD_LOCAL_SIZE", rank + 1);
  const Bind how = bind_named(arguments.front());
  const Binding binding = bind_ranks(machine_here(), how, ranks);
  if (!binding.places.empty()) {
    const auto& place = binding.places.at(static_cast<std::size_t>(rank));
    bind_caller(mask_of(place.processors));
    ::setenv(kSharersVariable, fmt::format("{}", place.sharers).c_str(), 1);
  } else if (rank == 0) {
    log::warning("--bind {}: {}", name_of(how), binding.why_not);
  }
  std::vector<char*> pointers;
  for (std::size_t i = 1; i < arguments.size(); ++i) {
    pointers.push_back(const_cast<char*>(arguments[i].c_str()));
  }
  pointers.push_back(nullptr);
  ::execv(pointers.front(), pointers.data());
  fail(ErrorKind::kUnsupported, "cannot run {}: {}", arguments[1],
       std::strerror(errno));
}

}  // namespace catena::launcher
