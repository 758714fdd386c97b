#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <map>
#include <regex>
#include <sstream>
#include <vector>

#include "tests/training/command_fixture.h"

/// README.md and the other documents name files, commands and flags that
/// exist.

namespace catena {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using Words = std::vector<std::string>;

struct Document {
  fs::path folder;
  std::string prose;  ///< without the code blocks
  Words code;         ///< lines of code blocks, continued ones joined
};

Document parse(const fs::path& folder, const std::string& text) {
  Document document{folder, "", {}};
  std::istringstream lines(text);
  bool in_code = false, continued = false;
  for (std::string line; std::getline(lines, line);) {
    // A block of a list is indented.
    const auto begin = std::min(line.find_first_not_of(' '), line.size());
    if (line.compare(begin, 3, "```") == 0) {
      in_code = !in_code;
    } else if (!in_code) {
      document.prose += line + "\n";
    } else {
      line.erase(0, begin);
      if (!continued) document.code.emplace_back();
      continued = line.ends_with('\\');
      if (continued) line.back() = ' ';
      document.code.back() += line;
    }
  }
  return document;
}

Words matches(const std::string& text, const std::regex& pattern) {
  Words found;
  for (std::sregex_iterator match(text.begin(), text.end(), pattern), end;
       match != end; ++match) {
    found.push_back((*match)[1]);
  }
  return found;
}

/// Targets of links into the repository.
Words links(const Document& document) {
  static const std::regex kLink(R"re(\]\(([^)\s#]+)(?:#[^)\s]*)?\))re");
  Words found;
  for (const std::string& target : matches(document.prose, kLink)) {
    if (target.find(':') == std::string::npos) found.push_back(target);
  }
  return found;
}

/// What follows "catena" in the commands of code blocks and inline code, with
/// neither texts in quotes nor comments nor what a pipe or a file receives.
Words commands(const Document& document) {
  static const std::regex kInline("`([^`]+)`");
  static const std::regex kCommand(R"re(^(?:\$ )?(?:build/)?catena ([^]*)$)re");
  static const std::regex kIrrelevant(
      R"re("[^"]*"|'[^']*'|(^| )[#<>|&;][^]*)re");
  Words lines = matches(document.prose, kInline);
  lines.insert(lines.end(), document.code.begin(), document.code.end());
  Words found;
  for (const std::string& line : lines) {
    std::smatch match;
    if (!std::regex_match(line, match, kCommand)) continue;
    found.push_back(std::regex_replace(match[1].str(), kIrrelevant, ""));
  }
  return found;
}

/// A name in capitals stands for what the reader puts there.
bool is_placeholder(const std::string& word) {
  return !word.empty() && std::isupper(static_cast<unsigned char>(word[0]));
}

class DocumentTest : public CommandFixture {
 protected:
  static std::vector<Document> documents() {
    const fs::path source = CATENA_SOURCE_DIR;
    std::vector<fs::path> paths = {source / "README.md",
                                   source / "CONTRIBUTING.md"};
    for (const auto& entry :
         fs::recursive_directory_iterator(source / "docs")) {
      if (entry.path().extension() == ".md") paths.push_back(entry.path());
    }
    std::vector<Document> found;
    for (const fs::path& path : paths) {
      found.push_back(parse(path.parent_path(), read_file(path)));
    }
    return found;
  }

  /// The help of "data prepare" and so on; empty if there is no such command.
  const std::string& help(const std::string& command) {
    const auto [at, is_new] = help_.try_emplace(command);
    if (is_new) {
      const std::string text = run(command + " --help").out;
      const std::string usage = "Usage: catena " + command;
      const auto begin = text.find(usage + (command.empty() ? "" : " "));
      if (begin != std::string::npos) at->second = text.substr(begin);
    }
    return at->second;
  }

  /// Whether the options of a help, but not its examples, name the flag.
  static bool lists(const std::string& help, const std::string& flag) {
    const auto begin = help.find("\nOptions:\n");
    if (begin == std::string::npos) return false;
    const auto end = help.find("\n\n", begin + 1);
    return std::regex_search(
        help.substr(begin, end - begin),
        std::regex("\n +(--?[\\w-]+,)?" + flag + "(?![\\w-])"));
  }

  /// What is wrong with the words of one command.
  Words problems(Words words) {
    static const std::regex kName("[a-z-]+");
    static const std::regex kFlag(R"re(\[?(--?[a-z][a-z-]*)[^]*)re");
    static const std::regex kSetting(R"re(([a-z][a-z0-9_.]+)=[^]*)re");
    std::string command;
    std::size_t next = 0;
    while (next < words.size() && (next == 0 || has_subcommands(command))) {
      if (is_placeholder(words[next])) return {};
      if (words[next].starts_with('-')) break;
      command += (next == 0 ? "" : " ") + words[next];
      ++next;
      if (!std::regex_match(words[next - 1], kName) || help(command).empty()) {
        return {"no command " + command};
      }
    }
    Words found;
    for (; next < words.size(); ++next) {
      std::smatch match;
      if (std::regex_match(words[next], match, kFlag)) {
        if (!lists(help(command), match[1])) {
          found.push_back(fmt::format("{} has no {}", command, match[1].str()));
        }
      } else if (words[next - 1].ends_with("--trace")) {
        if (!words[next].starts_with("steps=")) found.push_back("no steps");
      } else if (std::regex_match(words[next], match, kSetting)) {
        const std::string entry = fmt::format("\n  {} = ", match[1].str());
        if (help("train").find(entry) == std::string::npos) {
          found.push_back("no key " + match[1].str());
        }
      } else if (words[next].starts_with("configs/") &&
                 !fs::exists(fs::path(CATENA_SOURCE_DIR) / words[next])) {
        found.push_back("no file " + words[next]);
      }
    }
    return found;
  }

  /// The same for a whole line, in which \| parts alternatives of a word.
  Words problems(const std::string& line) {
    std::istringstream stream(line);
    Words words, found;
    const auto judge = [&] {
      const Words more = problems(words);
      found.insert(found.end(), more.begin(), more.end());
    };
    for (std::string word; stream >> word;) {
      if (word == "\\|") {
        judge();
        words.pop_back();
      } else {
        words.push_back(word);
      }
    }
    judge();
    return found;
  }

 private:
  bool has_subcommands(const std::string& command) {
    return help(command).find("\nSubcommands:\n") != std::string::npos;
  }

  std::map<std::string, std::string> help_;
};

TEST_F(DocumentTest, LinkedFilesExist) {
  std::size_t seen = 0;
  for (const Document& document : documents()) {
    for (const std::string& target : links(document)) {
      EXPECT_TRUE(fs::exists(document.folder / target))
          << "a link of " << document.folder << " to " << target;
      ++seen;
    }
  }
  EXPECT_GE(seen, 10U) << "the scan saw too few links";
}

TEST_F(DocumentTest, CommandsAndFlagsExist) {
  std::size_t seen = 0;
  for (const Document& document : documents()) {
    for (const std::string& command : commands(document)) {
      EXPECT_THAT(problems(command), IsEmpty())
          << "in " << document.folder << ": catena " << command;
      ++seen;
    }
  }
  EXPECT_GE(seen, 10U) << "the scan saw too few commands";
}

TEST_F(DocumentTest, ConfigurationPageIsTheSchema) {
  const fs::path page = fs::path(CATENA_SOURCE_DIR) / "docs/configuration.md";
  EXPECT_TRUE(run("config markdown").out == read_file(page))
      << "renew it: build/catena config markdown > docs/configuration.md";
}

TEST_F(DocumentTest, FindsLinksAndCommands) {
  const Document document =
      parse("",
            "[a](b.md#part) ![c](d/e.png) [f](https://g.example) [h](#i)\n"
            "`catena train\nCONFIG` `catena` and `catena-train x`\n"
            "```\n$ build/catena generate RUN --prompt \"a --b\"  # c\n"
            "build/catena config init > x.toml\n"
            "catena data prepare \\\n  --input x\n```\n"
            "1. x\n   ```\n   $ catena stop `x`\n   ```\n`catena doctor`\n");
  EXPECT_THAT(links(document), ElementsAre("b.md", "d/e.png"));
  EXPECT_THAT(
      commands(document),
      ElementsAre("train\nCONFIG", "doctor", "generate RUN --prompt  ",
                  "config init", "data prepare  --input x", "stop `x`"));
}

TEST_F(DocumentTest, FindsWhatIsWrong) {
  EXPECT_THAT(problems("trian x"), ElementsAre("no command trian"));
  EXPECT_THAT(problems("train;ls x"), ElementsAre("no command train;ls"));
  EXPECT_THAT(problems("data prepare \\| shuffle \\| inspect"),
              ElementsAre("no command data shuffle"));
  EXPECT_THAT(problems("train x [--trace step=2]"), ElementsAre("no steps"));
  EXPECT_THAT(problems("train configs/none.toml --steps 3 [--set x.y=3]..."),
              ElementsAre("no file configs/none.toml", "train has no --steps",
                          "no key x.y"));
  EXPECT_THAT(problems("generate RUN --to -p x"),
              ElementsAre("generate has no --to"));
  EXPECT_THAT(problems("COMMAND --help"), IsEmpty());
  EXPECT_THAT(problems("--version"), IsEmpty());
  EXPECT_THAT(problems("data inspect x --rows=2 --json"), IsEmpty());
}

}  // namespace
}  // namespace catena
