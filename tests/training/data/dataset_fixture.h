#pragma once

#include <random>

#include "tests/training/data/data_fixture.h"
#include "training/data/dataset_writer.h"
#include "training/data/prepare.h"

namespace catena::data {

class DatasetFolderTest : public FolderTest {
 protected:
  /// Rows of queries, responses and texts, of many lengths.
  static std::string mixed_rows(int count) {
    std::mt19937 random(11);
    std::string rows;
    const auto words = [&](int most) {
      std::string text;
      for (int i = static_cast<int>(random() % most); i > 0; --i) {
        text += i % 3 == 0 ? " ab" : " \xC3\xA9x";
      }
      return text;
    };
    for (int i = 0; i < count; ++i) {
      nlohmann::json row;
      if (i % 4 == 0) {
        row["text"] = words(60);
      } else {
        row["query"] = words(30);
        row["response"] = words(60);
      }
      rows += json_text(row) + "\n";
    }
    return rows;
  }

  PrepareOptions options(const std::string& rows,
                         const std::string& output = "out") const {
    PrepareOptions made;
    made.inputs = {write("rows.jsonl", rows)};
    made.tokenizer =
        write("tokenizer.json",
              json_text(small_tokenizer({{"a", "b"}, {" ", "ab"}})));
    made.output = folder() / output;
    made.threads = 1;
    return made;
  }

  /// A data set of given documents, written without a tokenizer's help.
  Dataset made_of(const std::vector<std::vector<std::int32_t>>& documents,
                  const std::vector<std::int64_t>& response_starts = {},
                  bool append_end_of_text = true) const {
    const auto path = folder() / fmt::format("made-{}", made_++);
    DatasetWriter writer(path, 1000, 2);
    for (std::size_t i = 0; i < documents.size(); ++i) {
      writer.add(documents[i],
                 response_starts.empty() ? 0 : response_starts[i]);
    }
    DatasetManifest manifest;
    manifest.vocabulary = 60000;
    manifest.append_end_of_text = append_end_of_text;
    writer.finish(manifest);
    manifest.tokenizer = write_dataset_file(path, "tokenizer.json", "{}");
    write_dataset_file(path, kDatasetFile, write_manifest(manifest));
    return Dataset(path);
  }

 private:
  mutable int made_ = 0;
};

}  // namespace catena::data
