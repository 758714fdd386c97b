#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "runtime/base/error.h"
#include "training/data/corpus.h"
#include "training/data/utf8.h"

/// Any bytes as a row of JSON Lines, and as a text document: either
/// Error(kData) comes out or a document of valid UTF-8 whose response lies
/// inside it.

namespace {

using catena::data::Document;
using catena::data::RawRow;
using catena::data::RowTemplate;

void check(const RawRow& row, const RowTemplate& row_template) {
  try {
    const Document document = parse_row(row, row_template);
    if (catena::data::invalid_utf8(document.text) != std::string_view::npos ||
        document.response_begin > document.text.size()) {
      std::abort();
    }
  } catch (const catena::Error& error) {
    if (error.kind() != catena::ErrorKind::kData) std::abort();
  }
}

// One byte in front chooses; what mutation would take long to find by itself
// is put around the rest.
RawRow row_of(std::string_view bytes) {
  RawRow row{std::string(bytes.substr(1)), "fuzz.jsonl", 1, 1, true};
  switch (bytes[0] % 4) {
    case 0:
      row.json = false;
      break;
    case 1:
      row.bytes = "{\"text\": \"" + row.bytes + "\"}";
      break;
    case 2:
      row.bytes = "{\"query\": \"" + row.bytes + "\", \"response\": \" x \"}";
      break;
    default:
      break;
  }
  return row;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  if (size == 0) return 0;
  static const RowTemplate row_template;
  check(row_of({reinterpret_cast<const char*>(data), size}), row_template);
  return 0;
}
