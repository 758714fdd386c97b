#include "training/data/pre_tokenizer.h"

#include <algorithm>
#include <string>

namespace catena::data {
namespace {

struct Cut {
  Span span;
  bool match;
};

// Matches and the stretches between them, in order.
void cut_at(const std::vector<Span>& matches, std::size_t size, bool invert,
            std::vector<Cut>& cuts) {
  cuts.clear();
  std::size_t end = 0;
  for (const Span& match : matches) {
    if (match.begin != end) cuts.push_back({{end, match.begin}, invert});
    cuts.push_back({match, !invert});
    end = match.end;
  }
  if (end != size) cuts.push_back({{end, size}, invert});
}

void append(Span span, std::size_t base, std::vector<Span>& out) {
  if (span.begin != span.end) {
    out.push_back({base + span.begin, base + span.end});
  }
}

void contiguous(const std::vector<Cut>& cuts, std::size_t base,
                std::vector<Span>& out) {
  for (std::size_t i = 0; i < cuts.size();) {
    std::size_t last = i;
    while (last + 1 < cuts.size() && cuts[last + 1].match == cuts[i].match)
      ++last;
    append({cuts[i].span.begin, cuts[last].span.end}, base, out);
    i = last + 1;
  }
}

// A match joins the piece before it, unless that piece is a match too.
void merge_with_previous(const std::vector<Cut>& cuts, std::size_t base,
                         std::vector<Span>& out) {
  std::vector<Span> pieces;
  bool previous_match = false;
  for (const Cut& cut : cuts) {
    if (cut.match && !previous_match && !pieces.empty()) {
      pieces.back().end = cut.span.end;
    } else {
      pieces.push_back(cut.span);
    }
    previous_match = cut.match;
  }
  for (const Span& piece : pieces) append(piece, base, out);
}

void merge_with_next(const std::vector<Cut>& cuts, std::size_t base,
                     std::vector<Span>& out) {
  std::vector<Span> pieces;
  bool next_match = false;
  for (auto cut = cuts.rbegin(); cut != cuts.rend(); ++cut) {
    if (cut->match && !next_match && !pieces.empty()) {
      pieces.back().begin = cut->span.begin;
    } else {
      pieces.push_back(cut->span);
    }
    next_match = cut->match;
  }
  std::reverse(pieces.begin(), pieces.end());
  for (const Span& piece : pieces) append(piece, base, out);
}

// Origins of the inserted spaces are empty, at the piece they precede.
void insert_prefix_spaces(AlignedText& text, std::vector<Span>& pieces) {
  std::string spaced;
  std::vector<Span> origins;
  for (Span& piece : pieces) {
    const std::size_t begin = spaced.size();
    if (text.text()[piece.begin] != ' ') {
      spaced += ' ';
      const std::size_t at = text.origin(piece.begin).begin;
      origins.push_back({at, at});
    }
    for (std::size_t i = piece.begin; i < piece.end; ++i) {
      origins.push_back(text.origin(i));
    }
    spaced += text.text().substr(piece.begin, piece.end - piece.begin);
    piece = {begin, spaced.size()};
  }
  text.replace(std::move(spaced), std::move(origins));
}

}  // namespace

Splitter Splitter::digits(bool individual) {
  // Looking ahead tells the compiler which bytes a match can begin with.
  return {Regex("(?=[0-9\\x{80}-\\x{10FFFF}])\\p{N}"),
          individual ? Behavior::kIsolated : Behavior::kContiguous, false};
}

Splitter Splitter::gpt2() {
  return {Regex("'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+|"
                " ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"),
          Behavior::kIsolated, false};
}

void Splitter::split(std::string_view text, std::vector<Span>& pieces) const {
  thread_local std::vector<Span> out;
  out.clear();
  for (const Span& piece : pieces) {
    split_piece(text.substr(piece.begin, piece.end - piece.begin), piece, out);
  }
  pieces.swap(out);
}

void Splitter::split_piece(std::string_view text, Span piece,
                           std::vector<Span>& out) const {
  thread_local std::vector<Span> matches;
  thread_local std::vector<Cut> cuts;
  matches.clear();
  pattern_.find_all(text, matches);
  if (matches.empty() && !(invert_ && behavior_ == Behavior::kRemoved)) {
    out.push_back(piece);
    return;
  }
  cut_at(matches, text.size(), invert_, cuts);
  switch (behavior_) {
    case Behavior::kIsolated:
      for (const Cut& cut : cuts) append(cut.span, piece.begin, out);
      return;
    case Behavior::kRemoved:
      for (const Cut& cut : cuts) {
        if (!cut.match) append(cut.span, piece.begin, out);
      }
      return;
    case Behavior::kMergedWithPrevious:
      return merge_with_previous(cuts, piece.begin, out);
    case Behavior::kMergedWithNext:
      return merge_with_next(cuts, piece.begin, out);
    case Behavior::kContiguous:
      return contiguous(cuts, piece.begin, out);
  }
}

void PreTokenizer::split(AlignedText& text, std::vector<Span>& pieces) const {
  pieces.clear();
  if (text.text().empty()) return;
  pieces.push_back({0, text.text().size()});
  for (const Splitter& stage : stages) stage.split(text.text(), pieces);
  if (prefix_space) insert_prefix_spaces(text, pieces);
  if (byte_level) byte_level->split(text.text(), pieces);
}

}  // namespace catena::data
