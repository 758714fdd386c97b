#include "training/generate.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "parallel/mesh.h"
#include "runtime/base/error.h"
#include "runtime/base/random.h"
#include "training/data/corpus.h"

namespace catena {
namespace {

/// Bytes of `text` that are whole UTF-8 characters (or never will be).
std::size_t complete_bytes(std::string_view text) {
  for (std::size_t back = 1; back <= std::min<std::size_t>(3, text.size());
       ++back) {
    const auto byte = static_cast<unsigned char>(text[text.size() - back]);
    if (byte < 0x80) break;
    if (byte < 0xC0) continue;  // inside a character
    const std::size_t length = byte >= 0xF0 ? 4 : byte >= 0xE0 ? 3 : 2;
    return length > back ? text.size() - back : text.size();
  }
  return text.size();
}

}  // namespace

std::int32_t choose_token(const std::vector<double>& logits, std::int64_t limit,
                          const GenerateOptions& options,
                          std::int64_t position) {
  const auto begin = logits.begin(), end = logits.begin() + limit;
  const auto best = std::max_element(begin, end);
  if (options.temperature == 0) {
    return static_cast<std::int32_t>(best - begin);
  }
  std::vector<double> weight(static_cast<std::size_t>(limit));
  std::transform(begin, end, weight.begin(), [&](double z) {
    return std::exp((z - *best) / options.temperature);
  });
  std::vector<std::int32_t> order(weight.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) {
    return weight[static_cast<std::size_t>(a)] >
           weight[static_cast<std::size_t>(b)];
  });
  const double total = std::accumulate(weight.begin(), weight.end(), 0.0);
  std::size_t kept = 0;
  double mass = 0;
  while (kept < order.size() && (kept == 0 || mass < options.top_p * total)) {
    mass += weight[static_cast<std::size_t>(order[kept++])];
  }
  double left = Random(options.seed, 0x67656e)
                    .uniform(static_cast<std::uint64_t>(position)) *
                mass;
  for (std::size_t i = 0; i < kept; ++i) {
    left -= weight[static_cast<std::size_t>(order[i])];
    if (left < 0) return order[i];
  }
  return order[kept - 1];
}

std::int64_t generate(Model& model, const data::Tokenizer& tokenizer,
                      std::string_view prompt, const GenerateOptions& options,
                      const std::function<void(std::string_view)>& emit) {
  std::vector<std::int32_t> next = tokenizer.encode(prompt);
  const std::int64_t longest = model.config().max_positions;
  if (next.empty()) fail(ErrorKind::kUsage, "the prompt is empty");
  auto past = static_cast<std::int64_t>(0);
  const auto prompt_tokens = static_cast<std::int64_t>(next.size());
  if (prompt_tokens >= longest) {
    fail(ErrorKind::kUsage,
         "the prompt has {} tokens; the model's longest sequence is {} "
         "(model.max_positions)",
         prompt_tokens, longest);
  }
  const std::int64_t capacity =
      prompt_tokens + std::min(longest - prompt_tokens, options.max_tokens);
  std::vector<KeyValueCache> caches = model.make_caches(capacity);
  const std::unique_ptr<Chunk> chunk = model.make_chunk();
  const std::int64_t limit = std::min<std::int64_t>(tokenizer.vocabulary_size(),
                                                    model.config().vocabulary);
  std::string pending;
  std::int64_t made = 0;
  while (made < options.max_tokens) {
    const TensorView logits = model.extend(next, past, caches, *chunk);
    past += static_cast<std::int64_t>(next.size());
    std::int32_t token = choose_token(read_values(model.backend(), logits),
                                      limit, options, past);
    // Sums are rounded differently by ranks whose experts' replicas differ.
    if (Ranks* const ranks = model.ranks()) {
      wait(ranks->world().broadcast({}, 0, &token, sizeof token));
    }
    if (token == tokenizer.end_of_text()) break;
    ++made;
    pending += tokenizer.decode({&token, 1});
    const std::size_t whole = complete_bytes(pending);
    if (whole > 0) emit(std::string_view(pending).substr(0, whole));
    pending.erase(0, whole);
    if (past >= capacity) break;
    next.assign(1, token);
  }
  if (!pending.empty()) emit(pending);
  return made;
}

std::string question(std::string_view row_template, std::string_view query) {
  std::string text = data::RowTemplate(row_template).prompt(query);
  while (!text.empty() && text.back() == ' ') text.pop_back();
  return text;
}

}  // namespace catena
