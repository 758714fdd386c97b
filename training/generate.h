#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "layers/model.h"
#include "training/data/tokenizer.h"

namespace catena {

struct GenerateOptions {
  std::int64_t max_tokens = 200;
  double temperature = 0;  ///< 0: always the most likely token
  double top_p = 1;        ///< draw from the smallest set that reaches it
  std::uint64_t seed = 0;
};

/// Chooses the next token from logits [vocabulary]; `limit` rows are real.
///   temperature 0: the largest (lowest id on a tie); else a draw from
///   softmax(logits / temperature) cut to the smallest set of most likely
///   tokens whose probabilities reach top_p. The draw depends on
///   (seed, position) alone.
[[nodiscard]] std::int32_t choose_token(const std::vector<double>& logits,
                                        std::int64_t limit,
                                        const GenerateOptions& options,
                                        std::int64_t position);

/// Continues `prompt` until the end-of-text token, max_tokens or the model's
/// longest sequence, with a key-value cache. `emit` gets whole UTF-8
/// characters as soon as they are known. Returns the number of new tokens.
/// Throws: Error(kUsage) for an empty prompt or one too long.
std::int64_t generate(Model& model, const data::Tokenizer& tokenizer,
                      std::string_view prompt, const GenerateOptions& options,
                      const std::function<void(std::string_view)>& emit);

/// The part of the row template before the response, for `query`: what a
/// model trained on such rows expects as a question.
[[nodiscard]] std::string question(std::string_view row_template,
                                   std::string_view query);

}  // namespace catena
