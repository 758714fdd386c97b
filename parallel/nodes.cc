#include "parallel/nodes.h"

#include <numeric>
#include <set>
#include <vector>

namespace catena {
namespace {

/// words[r]: what rank r of `all` says; this one says `word`.
std::vector<std::uint64_t> gather_words(Communicator& all, std::uint64_t word) {
  std::vector<std::uint64_t> words(static_cast<std::size_t>(all.size()));
  std::vector<Communicator::Part> parts;
  for (std::uint64_t& of_rank : words) {
    parts.push_back({&of_rank, sizeof of_rank});
  }
  words[static_cast<std::size_t>(all.rank())] = word;
  wait(all.all_gather_v({}, parts));
  return words;
}

}  // namespace

int ranks_per_node(std::span<const std::uint64_t> hosts) {
  const std::size_t size = hosts.size();
  std::size_t of_first = 1;
  while (of_first < size && hosts[of_first] == hosts[0]) ++of_first;
  std::set<std::uint64_t> seen;
  for (std::size_t begin = 0; begin < size; begin += of_first) {
    bool alike = size % of_first == 0 && seen.insert(hosts[begin]).second;
    for (std::size_t i = 0; alike && i < of_first; ++i) {
      alike = hosts[begin + i] == hosts[begin];
    }
    if (!alike) return static_cast<int>(size);
  }
  return static_cast<int>(of_first);
}

Alike find_alike(Communicator& all, std::uint64_t word, std::int64_t value) {
  const std::vector<std::uint64_t> words = gather_words(all, word);
  const std::vector<std::uint64_t> values =
      gather_words(all, static_cast<std::uint64_t>(value));
  Alike alike;
  for (std::size_t rank = 0; rank < words.size(); ++rank) {
    if (words[rank] != word) continue;
    ++alike.count;
    alike.sum += static_cast<std::int64_t>(values[rank]);
  }
  return alike;
}

int find_ranks_per_node(Transport& transport, std::uint64_t host,
                        Communicator::Deadline deadline) {
  std::vector<int> all(static_cast<std::size_t>(transport.size()));
  std::iota(all.begin(), all.end(), 0);
  // Lanes that others take later, when this has come to its end.
  Communicator communicator(transport, all, deadline, 0);
  return ranks_per_node(gather_words(communicator, host));
}

}  // namespace catena
