#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <map>
#include <regex>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/files.h"

/// The folders depend on each other in one direction only:
/// training -> layers -> parallel -> runtime -> runtime/base <- launcher.
/// Training sees one header of the launcher, launcher/contract.h.

namespace catena {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

const std::map<std::string, std::vector<std::string>, std::less<>> kMayInclude =
    {{"runtime/base", {"runtime/base"}},
     {"runtime", {"runtime", "runtime/base"}},
     {"parallel", {"parallel", "runtime", "runtime/base"}},
     {"layers", {"layers", "parallel", "runtime", "runtime/base"}},
     {"training",
      {"training", "layers", "parallel", "runtime", "runtime/base"}},
     {"launcher", {"launcher", "runtime/base"}}};

// "runtime/base/error.h" -> "runtime/base"; "" if it is no folder of ours.
std::string folder_of(std::string_view path) {
  if (path.starts_with("runtime/base/")) return "runtime/base";
  const std::string first(path.substr(0, path.find('/')));
  return kMayInclude.contains(first) && first.size() < path.size() ? first : "";
}

std::string refusal(const std::string& path, const std::string& included,
                    bool quoted) {
  const std::string from = folder_of(path), to = folder_of(included);
  if (to.empty()) {
    return quoted ? "is no path from the root of the repository" : "";
  }
  if (from == "training" && included == "launcher/contract.h") return "";
  const auto& allowed = kMayInclude.at(from);
  if (std::find(allowed.begin(), allowed.end(), to) != allowed.end()) return "";
  return fmt::format("is not below {}", from);
}

// Every include of the text, which is the file `path`, against the arrows.
std::vector<std::string> offences(const std::string& path,
                                  const std::string& text) {
  static const std::regex kInclude(
      R"re((?:^|\n)[ \t]*#[ \t]*include[ \t]*(["<])([^">\n]+)[">])re");
  std::vector<std::string> result;
  for (std::sregex_iterator match(text.begin(), text.end(), kInclude), end;
       match != end; ++match) {
    const std::string included = (*match)[2];
    const std::string why = refusal(path, included, (*match)[1] == "\"");
    if (!why.empty()) {
      result.push_back(fmt::format("{}: {} {}", path, included, why));
    }
  }
  return result;
}

// Comments and texts blanked, so that only code is left.
std::string code_of(const std::string& text) {
  static const std::regex kNotCode(
      R"re(//[^\n]*|/\*(?:[^*]|\*(?!/))*\*/|"(?:\\.|[^"\\\n])*")re");
  return std::regex_replace(text, kNotCode, " ");
}

// Words of a higher folder's business in the code of a lower one.
std::vector<std::string> foreign_words(const std::string& path,
                                       const std::string& text) {
  static const std::regex kForeign(
      R"re(\b(?:[a-zA-Z0-9]+_)*([eE]xperts?|[rR]anks?)(?:_[a-zA-Z0-9]+)*_?\b)re");
  std::vector<std::string> result;
  const std::string code = code_of(text);
  for (std::sregex_iterator match(code.begin(), code.end(), kForeign), end;
       match != end; ++match) {
    result.push_back(fmt::format("{}: {}", path, match->str()));
  }
  return result;
}

template <class Check>
std::map<std::string, int> scan(Check check) {
  static constexpr std::array<std::string_view, 4> kEndings = {".h", ".cc",
                                                               ".cu", ".cuh"};
  const fs::path root = CATENA_SOURCE_DIR;
  std::map<std::string, int> files;
  for (const char* top :
       {"runtime", "parallel", "layers", "training", "launcher"}) {
    for (const auto& entry : fs::recursive_directory_iterator(root / top)) {
      const std::string ending = entry.path().extension().string();
      if (std::find(kEndings.begin(), kEndings.end(), ending) ==
          kEndings.end()) {
        continue;
      }
      const std::string path = fs::relative(entry.path(), root).string();
      ++files[folder_of(path)];
      check(path, read_file(entry.path()));
    }
  }
  return files;
}

TEST(IncludeScanTest, ArrowsPointDown) {
  std::vector<std::string> found;
  const auto files =
      scan([&](const std::string& path, const std::string& text) {
        const auto more = offences(path, text);
        found.insert(found.end(), more.begin(), more.end());
      });
  EXPECT_THAT(found, IsEmpty());
  EXPECT_GE(files.at("runtime/base"), 10) << "the scan saw too few files";
  EXPECT_GE(files.at("launcher"), 2) << "the scan saw too few files";
}

TEST(IncludeScanTest, RuntimeKnowsNeitherExpertsNorRanks) {
  std::vector<std::string> found;
  scan([&](const std::string& path, const std::string& text) {
    if (folder_of(path) != "runtime") return;
    const auto more = foreign_words(path, text);
    found.insert(found.end(), more.begin(), more.end());
  });
  EXPECT_THAT(found, IsEmpty());
}

TEST(IncludeScanTest, FindsIncludesThatPointUp) {
  EXPECT_THAT(
      offences("runtime/tensor.cc",
               "#include \"layers/chain.h\"\n"
               "#include <vector>\n"
               "#include \"runtime/base/error.h\"\n"
               "  #  include <parallel/dispatch.h>\n"
               "#include \"tensor.h\"\n"
               "#include \"tests/support/random.h\"\n"),
      ElementsAre("runtime/tensor.cc: layers/chain.h is not below runtime",
                  "runtime/tensor.cc: parallel/dispatch.h is not below runtime",
                  "runtime/tensor.cc: tensor.h is no path from the root of "
                  "the repository",
                  "runtime/tensor.cc: tests/support/random.h is no path from "
                  "the root of the repository"));
  EXPECT_THAT(offences("runtime/base/log.cc", "#include \"runtime/dtype.h\"\n"),
              ElementsAre("runtime/base/log.cc: runtime/dtype.h is not below "
                          "runtime/base"));
  EXPECT_THAT(offences("launcher/main.cc", "#include \"runtime/dtype.h\"\n"),
              ElementsAre("launcher/main.cc: runtime/dtype.h is not below "
                          "launcher"));
}

TEST(IncludeScanTest, TrainingSeesTheContractOnly) {
  EXPECT_THAT(offences("training/main.cc",
                       "#include \"launcher/contract.h\"\n"
                       "#include \"launcher/agent.h\"\n"),
              ElementsAre("training/main.cc: launcher/agent.h is not below "
                          "training"));
  EXPECT_THAT(offences("layers/chain.cc", "#include \"launcher/contract.h\"\n"),
              ElementsAre("layers/chain.cc: launcher/contract.h is not below "
                          "layers"));
}

TEST(IncludeScanTest, FindsForeignWordsInCodeOnly) {
  EXPECT_THAT(foreign_words("runtime/a.cc",
                            "int num_experts;  // an expert\n"
                            "/* rank\n of a matrix */ Rank rank_;\n"
                            "auto s = \"expert \\\" rank\"; int franks;\n"),
              ElementsAre("runtime/a.cc: num_experts", "runtime/a.cc: Rank",
                          "runtime/a.cc: rank_"));
}

}  // namespace
}  // namespace catena
