#include "launcher/rank_layout.h"

#include <algorithm>
#include <map>
#include <numeric>

#include "runtime/base/error.h"

namespace catena::launcher {
namespace {

/// How many ranks each host gets.
std::vector<int> even_shares(int ranks, const std::vector<Host>& hosts) {
  const int count = static_cast<int>(hosts.size());
  if (count > ranks) {
    fail(ErrorKind::kUsage,
         "{} machines for {} ranks (-n): some would have none", count, ranks);
  }
  std::vector<int> shares(hosts.size(), ranks / count);
  std::for_each_n(shares.begin(), ranks % count, [](int& share) { ++share; });
  return shares;
}

std::vector<int> shares_by_slots(int ranks, const std::vector<Host>& hosts) {
  std::vector<int> shares;
  int left = ranks;
  for (const Host& host : hosts) {
    if (host.slots == 0) {
      fail(ErrorKind::kUsage,
           "{} says no slots, and other hosts do: say them of all or of none",
           host_text(host));
    }
    shares.push_back(std::min(left, host.slots));
    left -= shares.back();
  }
  if (left > 0) {
    fail(ErrorKind::kUsage, "{} ranks (-n), and the hosts have {} slots", ranks,
         ranks - left);
  }
  return shares;
}

}  // namespace

RankLayout lay_ranks(int ranks, const std::vector<Host>& hosts) {
  const bool slots =
      std::any_of(hosts.begin(), hosts.end(),
                  [](const Host& host) { return host.slots > 0; });
  const std::vector<int> shares =
      slots ? shares_by_slots(ranks, hosts) : even_shares(ranks, hosts);
  RankLayout layout;
  int first = 0;
  for (std::size_t i = 0; i < hosts.size(); ++i) {
    if (shares[i] == 0) continue;
    std::vector<int> here(static_cast<std::size_t>(shares[i]));
    std::iota(here.begin(), here.end(), first);
    first += shares[i];
    layout.hosts.push_back(hosts[i]);
    layout.ranks.push_back(std::move(here));
  }
  return layout;
}

std::string host_of(const RankLayout& layout, int rank) {
  for (std::size_t i = 0; i < layout.ranks.size(); ++i) {
    const auto& ranks = layout.ranks[i];
    if (std::find(ranks.begin(), ranks.end(), rank) != ranks.end()) {
      return layout.hosts[i].name;
    }
  }
  return "";
}

std::vector<RankShare> rank_shares(const RankLayout& layout) {
  std::map<std::string, int> ranks;  // of each name so far
  std::vector<RankShare> shares;
  for (std::size_t i = 0; i < layout.hosts.size(); ++i) {
    int& here = ranks[layout.hosts[i].name];
    shares.push_back({.first = here});
    here += static_cast<int>(layout.ranks[i].size());
  }
  for (std::size_t i = 0; i < shares.size(); ++i) {
    shares[i].of = ranks.at(layout.hosts[i].name);
  }
  return shares;
}

std::string host_names(const RankLayout& layout) {
  std::string names;
  std::vector<std::string> seen;
  for (const Host& host : layout.hosts) {
    if (std::find(seen.begin(), seen.end(), host.name) != seen.end()) continue;
    seen.push_back(host.name);
    names += (names.empty() ? "" : ", ") + host.name;
  }
  return names;
}

}  // namespace catena::launcher
