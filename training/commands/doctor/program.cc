#include <zstd.h>
#define PCRE2_CODE_UNIT_WIDTH 8
#include <fmt/format.h>
#include <gnu/libc-version.h>
#include <pcre2.h>
#include <spdlog/version.h>
#include <toml++/impl/version.h>
#include <utf8proc.h>
#include <xxhash.h>

#include <CLI/Version.hpp>
#include <nlohmann/json.hpp>

#include "training/commands/doctor/finding.h"

namespace catena::doctor {
namespace {

#if defined(__clang__)
constexpr const char* kCompiler = __VERSION__;
#else
constexpr const char* kCompiler = "GCC " __VERSION__;
#endif

Finding compiler() {
#if defined(__OPTIMIZE__)
  return {"compiler", Mark::kGood, kCompiler, ""};
#else
  return {"compiler", Mark::kBad, fmt::format("{}, no optimisation", kCompiler),
          "many times slower: configure with -DCMAKE_BUILD_TYPE=Release"};
#endif
}

/// "1.2.3" of 10203.
std::string three_parts(unsigned version) {
  return fmt::format("{}.{}.{}", version / 10000, version / 100 % 100,
                     version % 100);
}

/// "10.42" of "10.42 2022-12-11".
std::string pcre2_version() {
  char text[64] = "";
  ::pcre2_config(PCRE2_CONFIG_VERSION, text);
  const std::string whole = text;
  return whole.substr(0, whole.find(' '));
}

// Libraries that are loaded say which they are; those that are headers alone,
// or have no function for it, are what was compiled in.
Finding libraries() {
  return {"libraries", Mark::kGood,
          fmt::format(
              "glibc {}, zstd {}, xxHash {}, PCRE2 {}, utf8proc {} (Unicode "
              "{}); compiled with fmt {}, spdlog {}.{}.{}, nlohmann-json "
              "{}.{}.{}, toml++ {}.{}.{}, CLI11 {}",
              ::gnu_get_libc_version(), ::ZSTD_versionString(),
              three_parts(::XXH_versionNumber()), pcre2_version(),
              ::utf8proc_version(), ::utf8proc_unicode_version(),
              three_parts(FMT_VERSION), SPDLOG_VER_MAJOR, SPDLOG_VER_MINOR,
              SPDLOG_VER_PATCH, NLOHMANN_JSON_VERSION_MAJOR,
              NLOHMANN_JSON_VERSION_MINOR, NLOHMANN_JSON_VERSION_PATCH,
              TOML_LIB_MAJOR, TOML_LIB_MINOR, TOML_LIB_PATCH, CLI11_VERSION),
          ""};
}

}  // namespace

Findings program_findings() { return {compiler(), libraries()}; }

}  // namespace catena::doctor
