#include "tests/support/browser.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <map>
#include <nlohmann/json.hpp>
#include <tuple>

#include "runtime/base/error.h"
#include "runtime/base/files.h"

namespace catena {
namespace {

using Json = nlohmann::json;

constexpr int kPatienceMilliseconds = 60000;
/// Chromium's own: it reads from the first and writes to the second.
constexpr int kCommands = 3, kAnswers = 4;

/// Debian's chromium, or its part without windows; null: neither is installed.
const char* program() {
  for (const char* name : {"chromium", "chromium-headless-shell"}) {
    const std::string look =
        fmt::format("command -v {} > /dev/null 2>&1", name);
    if (std::system(look.c_str()) == 0) return name;
  }
  return nullptr;
}

[[noreturn]] void become(const char* browser, int commands, int answers,
                         const std::string& log, const std::string& profile) {
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  const int said = ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  ::dup2(said, STDOUT_FILENO);
  ::dup2(said, STDERR_FILENO);
  // Out of the way first: they may have each other's numbers.
  commands = ::fcntl(commands, F_DUPFD, kAnswers + 1);
  answers = ::fcntl(answers, F_DUPFD, kAnswers + 1);
  ::dup2(commands, kCommands);
  ::dup2(answers, kAnswers);
  ::execlp(browser, browser, "--headless", "--no-sandbox", "--disable-gpu",
           "--disable-dev-shm-usage", "--no-first-run", "--disable-lcd-text",
           "--remote-debugging-pipe", profile.c_str(), "about:blank", nullptr);
  ::_exit(127);
}

}  // namespace

bool Browser::installed() { return program() != nullptr; }

Browser::Browser(const std::filesystem::path& folder) : folder_(folder) {
  std::array<int, 2> commands{}, answers{};
  CATENA_CHECK(::pipe2(commands.data(), O_CLOEXEC) == 0 &&
                   ::pipe2(answers.data(), O_CLOEXEC) == 0,
               "[browser] pipe");
  const std::string log = (folder / "browser.log").string();
  const std::string profile =
      "--user-data-dir=" + (folder / "profile").string();
  const char* browser = program();
  CATENA_CHECK(browser != nullptr, "[browser] chromium is not installed");
  process_ = ::fork();
  CATENA_CHECK(process_ >= 0, "[browser] fork");
  if (process_ == 0) become(browser, commands[0], answers[1], log, profile);
  ::close(commands[0]);
  ::close(answers[1]);
  to_ = commands[1];
  from_ = answers[0];
  const Json target =
      ask("Target.createTarget", {{"url", "about:blank"}})["targetId"];
  session_ = ask("Target.attachToTarget",
                 {{"targetId", target}, {"flatten", true}})["sessionId"];
}

Browser::~Browser() {
  ::kill(-process_, SIGKILL);
  ::waitpid(process_, nullptr, 0);
  ::close(to_);
  ::close(from_);
}

// A message ends with a zero byte; what is no answer to this is an event.
Json Browser::ask(const char* method, const Json& parameters) {
  Json command = {{"id", ++asked_}, {"method", method}, {"params", parameters}};
  if (!session_.empty()) command["sessionId"] = session_;
  const std::string text = command.dump() + '\0';
  const auto gone = [&](const char* how) {
    fail(ErrorKind::kIo, "[browser] {} {}; see {}", method, how,
         (folder_ / "browser.log").string());
  };
  if (::write(to_, text.data(), text.size()) < 0) gone("cannot be asked");
  for (;;) {
    for (auto end = held_.find('\0'); end != std::string::npos;
         end = held_.find('\0')) {
      const Json message = Json::parse(held_.substr(0, end));
      held_.erase(0, end + 1);
      if (message.value("id", 0) != asked_) continue;
      if (!message.contains("result")) gone(message.dump().c_str());
      return message["result"];
    }
    pollfd ready{from_, POLLIN, 0};
    if (::poll(&ready, 1, kPatienceMilliseconds) <= 0) gone("is not answered");
    std::array<char, 65536> piece;
    const ssize_t count = ::read(from_, piece.data(), piece.size());
    if (count <= 0) gone("ended it");
    held_.append(piece.data(), static_cast<std::size_t>(count));
  }
}

void Browser::open(const std::string& address) {
  ask("Page.navigate", {{"url", address}});
  // That is answered before the page has as much as a body.
  std::ignore = value(R"(new Promise(done =>
      document.readyState == "complete" ? done()
          : addEventListener("load", () => done())))");
}

Json Browser::value(const std::string& expression) {
  const Json answer = ask("Runtime.evaluate", {{"expression", expression},
                                               {"awaitPromise", true},
                                               {"returnByValue", true}});
  if (answer.contains("exceptionDetails")) {
    fail(ErrorKind::kInternal, "[browser] {}: {}", expression,
         answer["exceptionDetails"].dump());
  }
  return answer["result"].value("value", Json());
}

void Browser::set_size(int width, int height) {
  ask("Emulation.setDeviceMetricsOverride", {{"width", width},
                                             {"height", height},
                                             {"deviceScaleFactor", 1},
                                             {"mobile", screen_.phone}});
}

void Browser::look_on(const Screen& screen) {
  screen_ = screen;
  set_size(screen.width, screen.height);
  ask("Emulation.setEmulatedMedia",
      {{"features",
        {{{"name", "prefers-color-scheme"},
          {"value", screen.dark ? "dark" : "light"}}}}});
}

void Browser::press(const std::string& key) {
  static const std::map<std::string, int> numbers = {
      {"Tab", 9},         {"Space", 32},     {"End", 35},
      {"Home", 36},       {"ArrowLeft", 37}, {"ArrowUp", 38},
      {"ArrowRight", 39}, {"ArrowDown", 40}};
  const std::string text = key == "Space" ? " " : "";
  for (const char* type : {"keyDown", "keyUp"}) {
    Json event = {{"type", type},
                  {"key", text.empty() ? key : text},
                  {"code", key},
                  {"windowsVirtualKeyCode", numbers.at(key)}};
    if (!text.empty()) event["text"] = text;
    ask("Input.dispatchKeyEvent", event);
  }
}

void Browser::picture(const std::filesystem::path& png) {
  set_size(screen_.width,
           value("document.documentElement.scrollHeight").get<int>());
  const Json answer = ask("Page.captureScreenshot", {{"format", "png"}});
  set_size(screen_.width, screen_.height);
  const std::string encoded = png.string() + ".base64";
  write_file_atomically(encoded, answer["data"].get<std::string>());
  const std::string write =
      fmt::format("'{0}/tests/support/palette_png' '{1}' '{2}' && rm '{1}'",
                  CATENA_SOURCE_DIR, encoded, png.string());
  CATENA_CHECK(std::system(write.c_str()) == 0, "[browser] {}", write);
}

}  // namespace catena
