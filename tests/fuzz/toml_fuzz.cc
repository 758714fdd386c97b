#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/config.h"
#include "runtime/base/error.h"

/// Any bytes as a configuration file and as the value of every kind of key:
/// nothing but Error(kConfig) may come out, and what was accepted must print
/// as TOML that is accepted again and prints the same.

namespace {

using catena::config::Integer;
using catena::config::Number;
using catena::config::Schema;
using catena::config::Switch;
using catena::config::Text;

struct Target {
  std::int64_t integer = 3;
  double number = 0.5;
  bool flag = true;
  std::string text, choice = "one";
  std::vector<std::string> texts;
  Schema schema;

  Target() {
    constexpr double kInfinity = std::numeric_limits<double>::infinity();
    schema.add("i", integer, Integer{-100, 100, "", "Integer."});
    schema.section("a", "Section.");
    schema.add("a.n", number, Number{-kInfinity, kInfinity, "", "Number."});
    schema.add("a.f", flag, Switch{"Switch."});
    schema.add("a.b.t", text, Text{{}, "", "Text."});
    schema.add("a.b.c", choice, Text{{"one", "two"}, "", "Choice."});
    schema.add("a.b.l", texts, Text{{}, "", "List."});
  }

  bool accepted() {
    try {
      schema.finish();
      return true;
    } catch (const catena::Error& error) {
      if (error.kind() != catena::ErrorKind::kConfig) std::abort();
      return false;
    }
  }
};

void check_round_trip(const Target& target) {
  const std::string printed = target.schema.toml(true, false);
  Target copy;
  copy.schema.read_text(printed, "copy.toml");
  if (!copy.accepted() || copy.schema.toml(true, false) != printed) {
    std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  Target file;
  file.schema.read_text(bytes, "fuzz.toml");
  file.accepted();
  check_round_trip(file);
  Target flags;
  for (const auto& key : flags.schema.keys()) {
    flags.schema.set(key.path + "=" + std::string(bytes), "--set");
  }
  flags.schema.set(bytes, "--set");
  flags.accepted();
  check_round_trip(flags);
  return 0;
}
