#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "training/data/corpus.h"
#include "training/data/dataset.h"

namespace catena::data {

struct PrepareOptions {
  std::vector<std::filesystem::path> inputs;
  std::filesystem::path tokenizer;  ///< see Tokenizer::load
  std::filesystem::path output;     ///< folder, made if missing, else empty
  bool append_end_of_text = true;   ///< a token behind each document
  bool skip_bad_rows = false;       ///< count them instead of stopping
  std::string row_template = std::string(RowTemplate::kDefault);
  std::int64_t shard_tokens = std::int64_t{1} << 26;  ///< a shard ends here
  int threads = 0;  ///< 0: as many as there are cores
  /// Bytes of the inputs read so far, bytes in all; one thread at a time.
  std::function<void(std::int64_t, std::int64_t)> progress;
};

struct PrepareSummary {
  std::int64_t documents = 0, tokens = 0, response_tokens = 0;
  std::int64_t shards = 0;
  BadRows bad_rows;
};

/// Turns text into a data set. The files do not depend on the number of
/// threads. A token belongs to the response if any of its bytes do; the end of
/// text always does.
/// What a preparation that did not finish left in the output is replaced.
/// Throws: Error(kUsage) if the output holds a data set or anything foreign, or
/// the tokenizer names no end of text; Error(kData) as parse_row and
/// Tokenizer::load, "FILE:LINE: ..." for a row that cannot be encoded, and if
/// there is no row at all; Error(kIo).
PrepareSummary prepare(const PrepareOptions& options);

/// The data set for `options`, whose output is chosen here: if the only input
/// is a data set folder, that one (made with the same tokenizer, if one is
/// given); else <cache>/<hash>, prepared if it is not there yet. Several
/// processes may do so at once. What killed ones have left of it is removed
/// once it is a day old.
/// Throws: as prepare and Dataset; Error(kIo) if it cannot be put in its place.
[[nodiscard]] Dataset open_or_prepare(PrepareOptions options,
                                      const std::filesystem::path& cache,
                                      Verify verify = Verify::kContent);

}  // namespace catena::data
