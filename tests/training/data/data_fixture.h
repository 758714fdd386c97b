#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/error.h"
#include "runtime/base/files.h"
#include "tests/support/json.h"
#include "training/data/byte_alphabet.h"
#include "training/data/tokenizer.h"
#include "training/data/tokenizer_parts.h"

namespace catena::data {

/// A folder of its own for each test, removed at the end.
class FolderTest : public ::testing::Test {
 protected:
  FolderTest() {
    std::string name = ::testing::TempDir() + "catena-data-XXXXXX";
    folder_ = ::mkdtemp(name.data());
  }
  ~FolderTest() override { std::filesystem::remove_all(folder_); }

  std::filesystem::path write(const std::string& name,
                              std::string_view content) const {
    write_file_atomically(folder_ / name, content);
    return folder_ / name;
  }
  [[nodiscard]] const std::filesystem::path& folder() const { return folder_; }

 private:
  std::filesystem::path folder_;
};

/// Runs something that must throw and gives what the error says.
inline std::string error_of(const std::function<void()>& run,
                            ErrorKind kind = ErrorKind::kData) {
  try {
    run();
  } catch (const Error& error) {
    EXPECT_EQ(static_cast<int>(error.kind()), static_cast<int>(kind))
        << error.what();
    return error.what();
  }
  ADD_FAILURE() << "no error";
  return "";
}

/// A tokenizer.json: id 0 is <|endoftext|>, byte b is 1 + b, merge i is
/// 257 + i. `merges` in raw text: {"a", "b"}.
inline nlohmann::json small_tokenizer(
    const std::vector<std::pair<std::string, std::string>>& merges = {}) {
  TokenizerDescription description;
  description.vocabulary = {"<|endoftext|>"};
  description.special = description.vocabulary;
  for (int byte = 0; byte < 256; ++byte) {
    description.vocabulary.emplace_back(
        spelled_byte(static_cast<std::uint8_t>(byte)));
  }
  for (const auto& [left, right] : merges) {
    description.merges.push_back(spelled(left) + " " + spelled(right));
    description.vocabulary.push_back(spelled(left + right));
  }
  return json_of(write_tokenizer_json(description));
}

inline Tokenizer tokenizer_of(const nlohmann::json& json) {
  return Tokenizer::from_json(json_text(json), "tokenizer.json");
}

/// What each token stands for: the clearest way to compare.
inline std::vector<std::string> tokens_of(const Tokenizer& tokenizer,
                                          std::string_view text) {
  std::vector<std::string> tokens;
  for (const std::int32_t id : tokenizer.encode(text)) {
    tokens.push_back(tokenizer.decode({&id, 1}));
  }
  return tokens;
}

}  // namespace catena::data
