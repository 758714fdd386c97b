#include "launcher/commands/launch_options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <regex>

#include "launcher/commands/launch.h"
#include "launcher/contract.h"
#include "runtime/base/files.h"

namespace catena::launcher {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::UnorderedElementsAreArray;
using Words = std::vector<std::string>;

/// A key, a value that is not its default, as text and as TOML, and what the
/// flag wants for it.
struct Setting {
  const char *path, *text, *toml;
  Words flag;
};

/// Every flag of `catena launch --help` but --help.
const std::vector<Setting>& settings() {
  static const std::vector<Setting> kAll = {
      {"launch.ranks", "3", "3", {"-n", "3"}},
      {"launch.engine", "ssh", "\"ssh\"", {"--engine", "ssh"}},
      {"launch.hosts", "[::1]:2,b", "\"[::1]:2,b\"", {"--hosts", "[::1]:2,b"}},
      {"launch.hostfile", "h", "\"h\"", {"--hostfile", "h"}},
      {"launch.agents", "2", "2", {"--agents", "2"}},
      {"launch.nnodes", "1:2", "\"1:2\"", {"--nnodes", "1:2"}},
      {"launch.nproc_per_node", "2", "\"2\"", {"--nproc-per-node", "2"}},
      {"launch.rejoin_timeout", "1.5", "1.5", {"--rejoin-timeout", "1.5"}},
      {"launch.env", "A=b c", "[\"A=b c\"]", {"--env", "A=b c"}},
      {"launch.bind", "core", "\"core\"", {"--bind", "core"}},
      {"launch.address", "::1", "\"::1\"", {"--address", "::1"}},
      {"launch.tls", "off", "\"off\"", {"--tls", "off"}},
      {"launch.lease", "2.5", "2.5", {"--lease", "2.5"}},
      {"launch.preflight", "false", "false", {"--no-preflight"}},
      {"launch.exclude_slow", "true", "true", {"--exclude-slow"}},
      {"launch.preflight_timeout", "3", "3", {"--preflight-timeout", "3"}},
      {"launch.max_restarts", "7", "7", {"--max-restarts", "7"}},
      {"launch.grace_period", "4", "4", {"--grace-period", "4"}},
      {"launch.start_timeout", "99.5", "99.5", {"--start-timeout", "99.5"}},
      {"launch.section_timeout", "6", "6", {"--section-timeout", "6"}},
      {"launch.time_limit", "8", "8", {"--time-limit", "8"}},
      {"launch.dashboard", "off", "false", {"--no-dashboard"}},
      {"launch.dashboard_port", "9", "9", {"--dashboard-port", "9"}},
      {"launch.dashboard_address",
       "::",
       "\"::\"",
       {"--dashboard-address", "::"}},
      {"launch.resume", "1", "true", {"--resume"}},
      {"launch.init_from", "w", "\"w\"", {"--init-from", "w"}},
      {"launch.trace", "steps=1:2", "\"steps=1:2\"", {"--trace", "steps=1:2"}},
      {"set", "a.b=c", "[\"a.b=c\"]", {"--set", "a.b=c"}},
      {"dry_run", "yes", "true", {"--dry-run"}},
      {"json", "true", "true", {"--json"}}};
  return kAll;
}

bool is_in_file(const Setting& setting) {
  return std::string(setting.path).starts_with("launch.");
}

/// "NAME=VALUE" of this process, until it goes.
class Variable {
 public:
  explicit Variable(const std::string& text)
      : name_(text.substr(0, text.find('='))) {
    ::setenv(name_.c_str(), text.c_str() + name_.size() + 1, 1);
  }
  ~Variable() { ::unsetenv(name_.c_str()); }
  Variable(const Variable&) = delete;
  Variable& operator=(const Variable&) = delete;

 private:
  std::string name_;
};

class LaunchOptionsTest : public ::testing::Test {
 protected:
  LaunchOptionsTest() {
    std::string name = (fs::temp_directory_path() / "optionsXXXXXX").string();
    folder_ = ::mkdtemp(name.data());
    configure("");
    for (const Setting& setting : settings()) {
      ::unsetenv(variable_of(setting.path).c_str());
    }
  }
  ~LaunchOptionsTest() override { fs::remove_all(folder_); }

  void configure(const std::string& text) const {
    write_file_atomically(file(), text);
  }
  [[nodiscard]] std::string file() const {
    return (folder_ / "x.toml").string();
  }
  void read(LaunchOptions& options, Words arguments) const {
    arguments.push_back(file());
    ASSERT_EQ(options.read(arguments), std::nullopt);
  }
  /// The value of a key, as TOML, and who said it.
  [[nodiscard]] std::string value(const std::string& path,
                                  const Words& arguments) const {
    LaunchOptions options;
    read(options, arguments);
    const auto list = [](const Words& texts) {
      return texts.empty() ? "[]" : fmt::format("[\"{}\"]", texts.front());
    };
    const std::string origin = " of " + options.origin(path);
    if (path == "set") return list(options.assignments) + origin;
    if (path == "launch.env") return list(options.launch.env) + origin;
    for (const config::Key& key : options.schema().keys()) {
      if (key.path == path) return key.value + origin;
    }
    return "no key " + path;
  }
  /// Kind and text of the error of reading and of what follows from it.
  [[nodiscard]] std::string refusal(Words arguments) const {
    arguments.push_back(file());
    try {
      LaunchOptions options;
      EXPECT_EQ(options.read(arguments), std::nullopt);
      static_cast<void>(launch_request(options));
    } catch (const Error& error) {
      std::string text = error.what();
      for (auto at = text.find(file()); at != std::string::npos;
           at = text.find(file())) {
        text.replace(at, file().size(), "x.toml");
      }
      return (error.kind() == ErrorKind::kUsage    ? "usage: "
              : error.kind() == ErrorKind::kConfig ? "config: "
                                                   : "other: ") +
             text;
    }
    return "";
  }

  fs::path folder_;
};

TEST_F(LaunchOptionsTest, TheTableOfThisTestHasEveryFlag) {
  ::testing::internal::CaptureStdout();
  EXPECT_EQ(launch({"--help"}), kExitSuccess);
  const std::string help = ::testing::internal::GetCapturedStdout();
  static const std::regex kFlag("\n  (?:-\\w,)?(--[\\w-]+)");
  Words listed, known = {"--help"};
  for (std::sregex_iterator at(help.begin(), help.end(), kFlag), end; at != end;
       ++at) {
    listed.push_back((*at)[1]);
  }
  for (const Setting& setting : settings()) {
    known.push_back(flag_of(setting.path));
    EXPECT_THAT(help, HasSubstr('[' + variable_of(setting.path) + ']'));
  }
  EXPECT_THAT(listed, UnorderedElementsAreArray(known));
}

TEST_F(LaunchOptionsTest, EveryFlagHasAVariableAndAKey) {
  for (const Setting& setting : settings()) {
    SCOPED_TRACE(setting.path);
    const std::string path = setting.path, wanted = setting.toml;
    EXPECT_NE(value(path, {}), wanted + " of default");
    EXPECT_THAT(value(path, {}), HasSubstr(" of default"));
    EXPECT_EQ(value(path, setting.flag), wanted + " of " + flag_of(path));
    {
      const Variable variable(variable_of(path) + '=' + setting.text);
      EXPECT_EQ(value(path, {}), wanted + " of " + variable_of(path));
    }
    if (!is_in_file(setting)) continue;
    EXPECT_EQ(value(path, {"--set", fmt::format("{}={}", path, wanted)}),
              wanted + " of --set");
    configure(fmt::format("[launch]\n{} = {}\n", path.substr(7), wanted));
    EXPECT_THAT(value(path, {}), AllOf(HasSubstr(wanted + " of " + file()),
                                       HasSubstr("x.toml:2:")));
    configure("");
  }
}

TEST_F(LaunchOptionsTest, TheFileIsNotAskedWhatOneCallIsFor) {
  configure("dry_run = true\njson = true\nset = \"a=b\"\n[model]\nx = 1\n");
  LaunchOptions options;
  read(options, {});
  EXPECT_FALSE(options.dry_run);
  EXPECT_FALSE(options.json);
  EXPECT_THAT(options.assignments, ElementsAre());
  configure("[launch]\ndry_run = true\n");
  EXPECT_THAT(refusal({}), HasSubstr("x.toml:2:1: unknown key launch.dry_run"));
}

TEST_F(LaunchOptionsTest, OfSourcesTheNearestWins) {
  const std::string path = "launch.max_restarts";
  configure("[launch]\nmax_restarts = 4\n");
  const Variable variable("CATENA_MAX_RESTARTS=5");
  const Words set = {"--set", "launch.max_restarts=6"};
  EXPECT_EQ(value(path, {"--max-restarts", "7", set[0], set[1]}),
            "7 of --max-restarts");
  EXPECT_EQ(value(path, set), "6 of --set");
  EXPECT_EQ(value(path, {}), "5 of CATENA_MAX_RESTARTS");
  const Variable empty("CATENA_MAX_RESTARTS=");
  EXPECT_EQ(value(path, {}), "4 of " + file() + ":2:16");
}

TEST_F(LaunchOptionsTest, AFlagTakesBackWhatAnotherSourceSwitchedOn) {
  configure("[launch]\nexclude_slow = true\npreflight = false\n");
  EXPECT_EQ(value("launch.exclude_slow", {"--no-exclude-slow"}),
            "false of --exclude-slow");
  EXPECT_EQ(value("launch.preflight", {"--preflight"}), "true of --preflight");
}

TEST_F(LaunchOptionsTest, RivalsTakeEachOthersPlace) {
  configure("[launch]\nhosts = \"a,b\"\nnproc_per_node = \"2\"\n");
  LaunchOptions options;
  read(options, {"--agents", "2", "-n", "4"});
  const LaunchRequest request = launch_request(options);
  EXPECT_EQ(request.agents, 2);
  EXPECT_EQ(request.ranks, 4);
  EXPECT_TRUE(request.hosts.empty());
  EXPECT_EQ(refusal({"--agents", "2", "--hostfile", "h"}),
            "usage: --hostfile and --agents: say one of them");
  configure("[launch]\nhosts = \"a,b\"\nagents = 2\n");
  EXPECT_EQ(refusal({}),
            "config: --hosts and --agents: say one of them (--hosts: "
            "x.toml:2:9, --agents: x.toml:3:10)");
}

TEST_F(LaunchOptionsTest, VariablesOfRanksAreTakenTogetherNameByName) {
  configure("[launch]\nenv = [\"A=file\", \"B=file\", \"C=file\"]\n");
  const Variable variable("CATENA_ENV=[\"B=variable\", \"C=variable\"]");
  const Variable here("OPTIONS_TEST_HERE=x y");
  LaunchOptions options;
  read(options,
       {"--env", "C=flag", "--env", "OPTIONS_TEST_HERE", "--env", "D="});
  EXPECT_THAT(options.launch.env, ElementsAre("A=file", "B=variable", "C=flag",
                                              "OPTIONS_TEST_HERE=x y", "D="));
}

TEST_F(LaunchOptionsTest, AssignmentsAreTheTrainersButForTheLaunchers) {
  const Variable variable("CATENA_SET=[\"a.b=1\", \"launch.lease=2\"]");
  LaunchOptions options;
  read(options, {"--set", " launch.lease = 3", "--set", "a.b=4"});
  EXPECT_THAT(options.assignments, ElementsAre("a.b=1", "a.b=4"));
  EXPECT_EQ(options.launch.lease, 3);
}

TEST_F(LaunchOptionsTest, ErrorsSayWhereAndWhat) {
  configure("[launch]\nmax_restart = 3\nlease = \"x\"\n");
  EXPECT_THAT(refusal({}),
              AllOf(HasSubstr("config: "),
                    HasSubstr("x.toml:2:1: unknown key launch.max_restart; "
                              "did you mean launch.max_restarts?"),
                    HasSubstr("x.toml:3:9: launch.lease must be a finite "
                              "number from 0.1 to 31536000, not the text "
                              "\"x\"")));
  configure("[launch]\naddress = \"node1\"\nenv = [\"CATENA_X=1\"]\n");
  EXPECT_EQ(refusal({}),
            "config: x.toml:2:11: launch.address: node1 is no numeric "
            "address, such as 10.0.0.1 or ::1\nx.toml:3:7: launch.env: "
            "'CATENA_X': a name is wanted, and CATENA_... are ours");
  configure("");
  for (const std::string all : {"0.0.0.0", "::"}) {
    EXPECT_THAT(refusal({"--address", all}),
                HasSubstr(all + " is every address, and agents look for one"));
  }
  configure("[launch]\nnnodes = \"3\"\nhosts = \"a,b\"\n");
  EXPECT_EQ(refusal({}),
            "usage: --nnodes 3, and there are 2 hosts (--nnodes: x.toml:2:10)");
  EXPECT_EQ(refusal({"--nnodes", "4"}),
            "usage: --nnodes 4, and there are 2 hosts");
  configure("[launch]\nhosts = \"a,b b\"\n");
  EXPECT_THAT(refusal({}), HasSubstr("config: x.toml:2:9: column 4: "));
  configure("");
  EXPECT_EQ(refusal({"--set", "launch.lese=3"}),
            "config: --set: unknown key launch.lese; did you mean "
            "launch.lease?");
  EXPECT_EQ(refusal({"--max-restarts", "-1"}),
            "usage: --max-restarts: launch.max_restarts must be an integer "
            "from 0 to 1000000, not -1");
  EXPECT_EQ(refusal({"--env", "OPTIONS_TEST_NOT_SET"}),
            "usage: --env: OPTIONS_TEST_NOT_SET is not set here");
  const Variable variable("CATENA_DASHBOARD=maybe");
  EXPECT_THAT(refusal({}), HasSubstr("usage: CATENA_DASHBOARD: "
                                     "launch.dashboard must be true or false"));
}

TEST_F(LaunchOptionsTest, TheRequestIsWhatTheFileSays) {
  std::string text = "[launch]\n";
  for (const Setting& setting : settings()) {
    const std::string name =
        std::string(setting.path)
            .substr(std::string(setting.path).find('.') + 1);
    static const Words kOthers = {"hostfile", "agents", "nproc_per_node",
                                  "preflight"};
    if (!is_in_file(setting) || std::ranges::count(kOthers, name) > 0) continue;
    text += fmt::format("{} = {}\n", name,
                        name == "hosts"    ? "\"a:2,b:2,c:2\""
                        : name == "ranks"  ? "4"
                        : name == "nnodes" ? "\"1:2\""
                                           : setting.toml);
  }
  configure(text);
  LaunchOptions options;
  read(options, {});
  const LaunchRequest request = launch_request(options);
  const auto seconds = [](double value) {
    return std::chrono::duration_cast<Duration>(
        std::chrono::duration<double>(value));
  };
  EXPECT_EQ(request.config, file());
  EXPECT_EQ(request.ranks, 4);
  EXPECT_EQ(request.engine, Engine::kSsh);
  EXPECT_THAT(request.hosts, ElementsAre(Host{"a", "", 2}, Host{"b", "", 2}));
  EXPECT_THAT(request.spare_hosts, ElementsAre(Host{"c", "", 2}));
  EXPECT_EQ(request.least_agents, 1);
  EXPECT_EQ(request.rejoin, seconds(1.5));
  EXPECT_THAT(request.environment, ElementsAre("A=b c"));
  EXPECT_EQ(request.bind, Bind::kCore);
  EXPECT_EQ(request.address, "::1");
  EXPECT_EQ(request.tls, false);
  EXPECT_EQ(request.lease, seconds(2.5));
  EXPECT_TRUE(request.exclude_slow);
  EXPECT_EQ(request.probe_time, seconds(3));
  EXPECT_EQ(request.max_restarts, 7);
  EXPECT_EQ(request.grace, seconds(4));
  EXPECT_EQ(request.start_timeout, seconds(99.5));
  EXPECT_EQ(request.section_timeout, seconds(6));
  EXPECT_EQ(request.time_limit, seconds(8));
  EXPECT_FALSE(request.dashboard);
  EXPECT_EQ(request.dashboard_at.port, 9);
  EXPECT_EQ(request.dashboard_at.address, "::");
  EXPECT_TRUE(request.resume);
  EXPECT_EQ(request.init_from, "w");
  EXPECT_EQ(request.trace, "steps=1:2");
}

}  // namespace
}  // namespace catena::launcher
