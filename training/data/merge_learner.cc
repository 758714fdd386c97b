#include <algorithm>
#include <map>
#include <queue>
#include <set>

#include "training/data/tokenizer_trainer.h"

namespace catena::data {
namespace {

struct Word {
  std::vector<std::int32_t> symbols;
  std::int64_t count;
  std::int64_t round = 0;  // of merging in which it was last looked at
};

struct Pair {
  std::int32_t left, right;
  bool operator==(const Pair&) const = default;
};

struct PairHash {
  std::size_t operator()(const Pair& pair) const {
    const std::uint64_t key =
        std::uint64_t{static_cast<std::uint32_t>(pair.left)} << 32 |
        static_cast<std::uint32_t>(pair.right);
    const std::uint64_t mixed = key * 0x9E3779B97F4A7C15u;
    return static_cast<std::size_t>(mixed ^ mixed >> 29);
  }
};

struct Candidate {
  std::int64_t count;
  Pair pair;

  bool operator<(const Candidate& other) const {
    if (count != other.count) return count < other.count;
    if (pair.left != other.pair.left) return pair.left > other.pair.left;
    return pair.right > other.pair.right;
  }
};

// Counts of all pairs, kept up to date as words change. The queue may hold a
// pair with a count that was true once; pop_best() puts it back with the
// present one.
class Learner {
 public:
  explicit Learner(const PieceCounts& pieces) {
    // Sorted, so that nothing depends on the order of a hash table.
    const std::map<std::string_view, std::int64_t> sorted(pieces.begin(),
                                                          pieces.end());
    for (const auto& [text, count] : sorted) {
      Word word{{}, count, 0};
      for (const char c : text) {
        word.symbols.push_back(static_cast<unsigned char>(c));
      }
      words_.push_back(std::move(word));
    }
    for (int byte = 0; byte < 256; ++byte) {
      name_token(std::string(1, static_cast<char>(byte)));
    }
    for (std::size_t i = 0; i < words_.size(); ++i) count_word(i, +1, kAll);
    for (const auto& [pair, entry] : pairs_) queue_.push({entry.count, pair});
  }

  std::vector<LearnedMerge> run(std::int64_t tokens) {
    std::vector<LearnedMerge> merges;
    const std::size_t target = names_.size() + static_cast<size_t>(tokens);
    Candidate best{};
    while (names_.size() < target && pop_best(best)) {
      const auto [left, right] = best.pair;
      const std::int32_t merged =
          name_token(names_[static_cast<size_t>(left)] +
                     names_[static_cast<size_t>(right)]);
      merges.push_back({left, right, merged});
      apply(best.pair, merged);
    }
    return merges;
  }

 private:
  struct Entry {
    std::int64_t count = 0;
    std::vector<std::size_t> words;  // may name a word twice, or one too many
  };

  // Two different pairs can spell the same token.
  std::int32_t name_token(const std::string& bytes) {
    const auto [found, is_new] =
        tokens_.emplace(bytes, static_cast<std::int32_t>(names_.size()));
    if (is_new) names_.push_back(bytes);
    return found->second;
  }

  // A word counted again joins only the lists of pairs it may not be in yet:
  // those of `fresh`, or all if that is kAll.
  void count_word(std::size_t index, int sign, std::int32_t fresh) {
    const Word& word = words_[index];
    for (std::size_t i = 0; i + 1 < word.symbols.size(); ++i) {
      const Pair pair{word.symbols[i], word.symbols[i + 1]};
      Entry& entry = pairs_[pair];
      entry.count += sign * word.count;
      touched_.push_back(pair);
      const bool joins =
          fresh == kAll || pair.left == fresh || pair.right == fresh;
      if (sign > 0 && joins &&
          (entry.words.empty() || entry.words.back() != index)) {
        entry.words.push_back(index);
      }
    }
  }

  bool pop_best(Candidate& best) {
    while (!queue_.empty()) {
      best = queue_.top();
      queue_.pop();
      const auto entry = pairs_.find(best.pair);
      const std::int64_t now = entry == pairs_.end() ? 0 : entry->second.count;
      if (now == best.count) return best.count >= kFewest;
      if (now >= kFewest) queue_.push({now, best.pair});
    }
    return false;
  }

  void apply(const Pair& pair, std::int32_t merged) {
    const std::vector<std::size_t> affected = std::move(pairs_[pair].words);
    touched_.clear();
    ++round_;
    for (const std::size_t index : affected) {
      Word& word = words_[index];
      if (word.round == round_) continue;
      word.round = round_;
      count_word(index, -1, merged);
      replace(word.symbols, pair, merged);
      count_word(index, +1, merged);
    }
    pairs_.erase(pair);
    for (const Pair& changed : touched_) {
      const auto entry = pairs_.find(changed);
      if (entry == pairs_.end()) continue;
      if (entry->second.count == 0) {
        pairs_.erase(entry);
      } else if (changed.left == merged || changed.right == merged) {
        queue_.push({entry->second.count, changed});
      }
    }
  }

  static void replace(std::vector<std::int32_t>& symbols, const Pair& pair,
                      std::int32_t merged) {
    std::size_t out = 0;
    for (std::size_t i = 0; i < symbols.size(); ++i) {
      const bool match = i + 1 < symbols.size() && symbols[i] == pair.left &&
                         symbols[i + 1] == pair.right;
      symbols[out++] = match ? merged : symbols[i];
      if (match) ++i;
    }
    symbols.resize(out);
  }

  static constexpr std::int64_t kFewest = 2;
  static constexpr std::int32_t kAll = -1;
  std::int64_t round_ = 0;
  std::vector<Word> words_;
  std::vector<std::string> names_;  // bytes of each token
  std::unordered_map<std::string, std::int32_t> tokens_;
  std::unordered_map<Pair, Entry, PairHash> pairs_;
  std::vector<Pair> touched_;
  std::priority_queue<Candidate> queue_;
};

}  // namespace

std::vector<LearnedMerge> learn_merges(const PieceCounts& pieces,
                                       std::int64_t tokens) {
  return Learner(pieces).run(tokens);
}

}  // namespace catena::data
