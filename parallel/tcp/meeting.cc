#include "parallel/tcp/meeting.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <map>
#include <vector>

#include "runtime/base/error.h"
#include "runtime/base/files.h"
#include "runtime/base/hash.h"
#include "runtime/base/machine.h"

namespace catena::tcp {
namespace {

using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;

/// What is in the store already comes within so long.
constexpr Seconds kAtOnce(5), kGlance(0.2);
/// How long the others wait longer than rank 0, for its answer.
constexpr Seconds kGrace(10);
/// Before the reason, where not all have come.
constexpr char kFailed = '!';
constexpr std::size_t kMostNamed = 8;

std::string key_of(int rank) { return fmt::format("meeting/rank/{}", rank); }
std::string answer_key(int rank) {
  return fmt::format("meeting/answer/{}", rank);
}

/// The same for all processes that share this machine, or a container on it.
std::string machine() { return hexadecimal(host_id()); }

/// "MACHINE NONCE process 123 of host".
std::string entry() {
  return fmt::format("{} {} process {} of {}", machine(), random_token(),
                     getpid(), host_name());
}
std::string machine_of(const std::string& entry) {
  return entry.substr(0, entry.find(' '));
}
std::string process_of(const std::string& entry) {
  return entry.substr(std::min(entry.size(), entry.find("process")));
}

Seconds left(Time until) {
  return std::max(Seconds(0), Seconds(until - Clock::now()));
}

Time after(Seconds duration) {
  // Bounded, so that "for ever" does not overflow the clock.
  constexpr Seconds kYear(365 * 24 * 3600.0);
  return Clock::now() +
         std::chrono::ceil<Clock::duration>(std::min(duration, kYear));
}

std::unique_ptr<StoreServer> serve(const Meeting::Options& options) {
  if (options.rank != 0) return nullptr;
  const std::string address = numeric_address(options.at.host);
  if (address != options.at.host && options.at.host != "localhost" &&
      address.starts_with("127.")) {
    fail(ErrorKind::kConfig,
         "\"{}\" is {} to rank 0 itself, where other machines do not reach it: "
         "give its numeric address",
         options.at.host, address);
  }
  try {
    return std::make_unique<StoreServer>(address, options.at.port,
                                         Secret(options.token));
  } catch (const Error& error) {
    fail(ErrorKind::kConfig,
         "rank 0 serves the others at an address of its own machine, and a "
         "port that nobody else has: {}",
         error.what());
  }
}

}  // namespace

Meeting::Meeting(const Options& options) : Meeting(options, serve(options)) {}

Meeting::Meeting(const Options& options, std::unique_ptr<StoreServer> server)
    : options_(options),
      server_(std::move(server)),
      client_(numeric_address(options.at.host), options.at.port,
              Secret(options.token), options.deadline),
      until_(after(options.deadline)) {
  enter();
  if (options_.rank == 0) count_all();
  hear();
}

/// A key is set once: that is how a rank that is there twice is found.
void Meeting::enter() {
  const auto set = [this](const std::string& key, const std::string& value) {
    try {
      client_.set(key, value);
      return std::string();
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::kCommunication) throw;
      const std::string other = client_.get(key, kAtOnce);
      if (other == value) throw;
      return other;
    }
  };
  const std::string size =
      set("meeting/size", fmt::format("{}", options_.size));
  if (!size.empty()) {
    fail(ErrorKind::kConfig,
         "rank {} was told that there are {} ranks, and another that there are "
         "{}",
         options_.rank, options_.size, size);
  }
  const std::string other = set(key_of(options_.rank), entry());
  if (!other.empty()) {
    fail(ErrorKind::kConfig,
         "rank {} is there already ({}): give every process a rank of its own",
         options_.rank, process_of(other));
  }
}

void Meeting::count_all() {
  std::vector<std::string> machines;
  std::vector<int> missing;
  for (int rank = 0; rank < options_.size && missing.size() <= kMostNamed;
       ++rank) {
    try {
      machines.push_back(machine_of(
          client_.get(key_of(rank), std::max(left(until_), kGlance))));
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::kTimeout) throw;
      missing.push_back(rank);
    }
  }
  std::string why;
  for (std::size_t i = 0; i < missing.size(); ++i) {
    why += i == kMostNamed ? ", ..."
                           : fmt::format("{}{}", i > 0 ? ", " : "", missing[i]);
  }
  if (!why.empty()) {
    why = fmt::format(
        "{} of {} ranks have not come within {:.3g} s: rank {}; look at what "
        "they said",
        missing.size() > kMostNamed ? fmt::format("more than {}", kMostNamed)
                                    : fmt::format("{}", missing.size()),
        options_.size, options_.deadline.count(), why);
  }
  std::map<std::string, int> here;
  for (const std::string& machine : machines) ++here[machine];
  const std::string name = random_token();
  for (int rank = 0; rank < options_.size; ++rank) {
    client_.set(
        answer_key(rank),
        why.empty()
            ? fmt::format("{} {}", name,
                          here[machines[static_cast<std::size_t>(rank)]])
            : kFailed + why);
  }
}

void Meeting::hear() {
  const std::string answer =
      client_.get(answer_key(options_.rank), left(until_) + kGrace);
  if (answer.starts_with(kFailed)) {
    fail(ErrorKind::kTimeout, "{}", answer.substr(1));
  }
  const auto space = answer.find(' ');
  name_ = answer.substr(0, space);
  ranks_here_ = std::stoi(answer.substr(space + 1));
}

}  // namespace catena::tcp
