// The page in a real browser, on the files of a run of two ranks.

#include "tests/support/browser.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <thread>

#include "launcher/monitor/monitor.h"
#include "tests/launcher/monitor/run_files.h"

namespace catena::launcher {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using Json = nlohmann::json;

constexpr Browser::Screen kPhone = {.width = 390, .height = 844, .phone = true};

/// For expressions: elements that show text of their own, their colours, and
/// what can be read of a canvas.
constexpr const char* kReading = R"js(
const texts = () => [...document.body.querySelectorAll('*')].filter(
    e => e.checkVisibility() && e.tagName !== 'OPTION' &&
        [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()));
const numbers = color => color.match(/[\d.]+/g).map(Number);
const behind = e => {
  for (; e; e = e.parentElement) {
    const color = numbers(getComputedStyle(e).backgroundColor);
    if (color.length < 4 || color[3] > 0) return color;
  }
  return [255, 255, 255];
};
const light = color => color.slice(0, 3).map(v => v / 255).map(
    v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const contrast = (a, b) => {
  const [low, high] = [light(a), light(b)].sort((x, y) => x - y);
  return (high + 0.05) / (low + 0.05);
};
const named = e => `${e.tagName} ${e.id || e.className}: ` +
    e.textContent.trim().slice(0, 40);
)js";

class BrowserTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!Browser::installed()) {
      GTEST_SKIP() << "NO BROWSER: chromium is not installed, and the page is "
                      "not looked at (Debian: chromium-headless-shell)";
    }
    files_.write_run();
    monitor_.emplace(files_.path());
    browser_.emplace(own_.path());
  }

  /// Opens the page, until it has drawn.
  void open(const Browser::Screen& screen = {}) {
    browser_->look_on(screen);
    browser_->open(monitor_->address());
    wait_for("document.body.dataset.drawn == 'yes'");
  }
  void wait_for(const std::string& condition) {
    for (int i = 0; i < 600; ++i) {
      if (browser_->value(condition) == true) return;
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    FAIL() << "a minute is over, and not yet: " << condition;
  }
  /// Of a function's body, after kReading.
  [[nodiscard]] Json read(const std::string& body) {
    return browser_->value(fmt::format("(() => {{{} {}}})()", kReading, body));
  }
  [[nodiscard]] std::string text_of(const char* id) {
    return browser_->value(
        fmt::format("document.getElementById('{}').textContent", id));
  }
  void focus(const char* id) {
    static_cast<void>(browser_->value(fmt::format(
        "document.getElementById('{}').focus({{focusVisible: true}})", id)));
  }
  void press(std::initializer_list<const char*> keys) {
    for (const char* key : keys) browser_->press(key);
  }
  /// Differs where what a canvas shows does.
  [[nodiscard]] std::size_t picture_of(const char* canvas) {
    return std::hash<std::string>{}(browser_->value(
        fmt::format("document.getElementById('{}').toDataURL()", canvas)));
  }

  RunFiles files_, own_;
  std::optional<Monitor> monitor_;
  std::optional<Browser> browser_;
};

TEST_F(BrowserTest, DrawsChartsMapsAndTables) {
  open();
  const std::string drawn =
      browser_->value("document.documentElement.outerHTML");
  EXPECT_THAT(drawn, AllOf(HasSubstr("data-drawn=\"yes\""),
                           HasSubstr("training -2 at step 10, of 10 points"),
                           HasSubstr("validation 4.5 at step 10, of 2 points"),
                           HasSubstr("tokens/s 200 at step 10"),
                           HasSubstr("work 0.5 at step 10"),
                           HasSubstr("dispatch 0.125 at step 10"),
                           HasSubstr("Load of each expert at step 10."),
                           HasSubstr("Transitions between experts.")));
  EXPECT_THAT(drawn,
              AllOf(HasSubstr("running"), HasSubstr("failed"),
                    HasSubstr("restart 1: rank 1 was killed"),
                    HasSubstr("step skipped: a spike"), HasSubstr("of rank 0"),
                    Not(HasSubstr("<b>")), Not(HasSubstr("not answered"))));
}

TEST_F(BrowserTest, EveryPictureIsAlsoSaidAndEveryControlNamed) {
  open();
  EXPECT_THAT(read(R"js(return [...document.querySelectorAll('canvas')]
      .filter(e => e.getAttribute('role') !== 'img' ||
          !(e.getAttribute('aria-label') || '').includes(' '))
      .map(e => e.id))js"),
              IsEmpty());
  EXPECT_THAT(read(R"js(
      return [...document.querySelectorAll('input, select, progress')]
          .filter(e => !e.getAttribute('aria-label') &&
              ![...e.labels].some(label => label.textContent.trim()))
          .map(e => e.id))js"),
              IsEmpty());
}

TEST_F(BrowserTest, OnAPhoneThePageFitsAndCanBeRead) {
  // Numbers of many digits, and words without a place to break them.
  files_.append(
      "metrics.jsonl",
      R"({"catena_event":"step_skipped","catena_step":10,"reason":")" +
          std::string(300, 'x') + "\"}\n");
  files_.append("logs/rank-0.log", std::string(300, 'y') + "\n");
  open(kPhone);
  EXPECT_EQ(read("return innerWidth"), kPhone.width);
  EXPECT_LE(read("return document.scrollingElement.scrollWidth"), kPhone.width);
  EXPECT_THAT(read(R"js(return texts()
      .filter(e => parseFloat(getComputedStyle(e).fontSize) < 11).map(named))js"),
              IsEmpty());
  EXPECT_GE(read("return Chart.defaults.font.size"), 11);
  // What is wider than its card can be moved there.
  EXPECT_THAT(read(R"js(return [...document.querySelectorAll('.card > *')]
      .filter(e => e.scrollWidth > e.clientWidth + 1 &&
          getComputedStyle(e).overflowX === 'visible').map(named))js"),
              IsEmpty());
  // A finger hits them.
  EXPECT_THAT(read(R"js(
      return [...document.querySelectorAll('select, input')]
          .map(e => [e, (e.closest('label') || e).getBoundingClientRect()])
          .filter(([, box]) => box.height < 24 || box.width < 24)
          .map(([e]) => named(e)))js"),
              IsEmpty());
}

TEST_F(BrowserTest, CanBeReadByDayAndByNight) {
  open();
  std::set<std::string> grounds, inks;
  std::set<std::size_t> maps, curves;
  for (const bool dark : {false, true}) {
    browser_->look_on({.dark = dark});
    wait_for(fmt::format(
        "matchMedia('(prefers-color-scheme: dark)').matches == {} && "
        "charts.all.loss.options.plugins.legend.labels.color == "
        "color('--text')",
        dark));
    EXPECT_THAT(read(R"js(return texts()
        .map(e => [e, contrast(numbers(getComputedStyle(e).color), behind(e))])
        .filter(([, ratio]) => !(ratio >= 4.5))
        .map(([e, ratio]) => named(e) + ' ' + ratio))js"),
                IsEmpty())
        << (dark ? "dark" : "light");
    // Names of axes and of lines, which stand on a card.
    EXPECT_EQ(read(R"js(
        const ground = behind(document.querySelector('.card'));
        const inks = Object.values(charts.all).flatMap(chart => [
            chart.options.plugins.legend.labels.color,
            ...Object.values(chart.options.scales).map(s => s.ticks.color)]);
        const drawn = document.createElement('canvas').getContext('2d');
        return Math.min(...inks.map(ink => {
          drawn.fillStyle = ink;
          drawn.fillRect(0, 0, 1, 1);
          return contrast([...drawn.getImageData(0, 0, 1, 1).data], ground);
        })) >= 4.5)js"),
              true);
    const auto style = [&](const char* of) {
      return read(fmt::format("return getComputedStyle(document.body).{}", of));
    };
    grounds.insert(style("backgroundColor"));
    inks.insert(style("color"));
    maps.insert(picture_of("load"));
    curves.insert(picture_of("loss"));
  }
  EXPECT_EQ(grounds.size(), 2U);
  EXPECT_EQ(inks.size(), 2U);
  EXPECT_EQ(maps.size(), 2U);
  EXPECT_EQ(curves.size(), 2U);
}

TEST_F(BrowserTest, TabReachesEveryControlAndShowsWhereItIs) {
  open();
  Json reached = Json::array();
  for (int i = 0; i < 40; ++i) {
    browser_->press("Tab");
    const Json at = read(R"js(
        const e = document.activeElement;
        if (e === document.body) return null;
        const style = getComputedStyle(e), box = e.getBoundingClientRect();
        const shown = style.outlineStyle !== 'none' &&
            parseFloat(style.outlineWidth) >= 2 && box.width > 0 &&
            box.right > 0 && box.left < innerWidth && box.bottom > 0 &&
            box.top < innerHeight &&
            contrast(numbers(style.outlineColor), behind(e)) >= 3;
        return (e.id || e.getAttribute('aria-label') || e.className) +
            (shown ? '' : ', not seen'))js");
    if (at.is_null() || (!reached.empty() && at == reached[0])) break;
    reached.push_back(at);
  }
  EXPECT_EQ(reached, Json({"skip", "loss-log", "load-slider", "load",
                           "transitions-select", "transitions", "Ranks",
                           "events", "log-select", "log-follow", "log"}));
}

TEST_F(BrowserTest, ArrowKeysWalkOverTheMaps) {
  open();
  EXPECT_EQ(text_of("load-text"), "");
  const std::size_t before = picture_of("load");
  focus("load");
  EXPECT_EQ(text_of("load-text"),
            "layer 0, iteration 0, expert 0: 3 choices, 1.50 of the mean");
  const std::size_t first = picture_of("load");
  EXPECT_NE(first, before);
  press({"ArrowRight", "ArrowDown"});
  EXPECT_EQ(text_of("load-text"),
            "layer 0, iteration 1, expert 1: 6 choices, 1.13 of the mean");
  EXPECT_NE(picture_of("load"), first);
  // Not beyond the edges.
  press({"ArrowUp", "ArrowUp", "ArrowUp", "ArrowLeft", "ArrowLeft"});
  EXPECT_EQ(picture_of("load"), first);
  press({"ArrowDown", "ArrowDown", "ArrowDown", "ArrowDown", "End"});
  EXPECT_EQ(text_of("load-text"),
            "layer 1, iteration 1, expert 2: 10 choices, 1.88 of the mean");
  press({"Home"});
  EXPECT_THAT(text_of("load-text"), HasSubstr("expert 0: 0 choices, 0.00"));
  focus("transitions");
  press({"ArrowRight"});
  EXPECT_EQ(text_of("transitions-text"),
            "expert 0, then 1: 2 choices, 1.02 times as many as independent "
            "ones");
}

TEST_F(BrowserTest, ARankThatIsSlowerThanOthersIsMarked) {
  open();
  const auto slowness = [this](int rank) {
    return read(fmt::format(R"js(
        const cell = document.querySelector(
            '#ranks tr:nth-child({}) td:nth-child(7)');
        return `${{cell.className}}|${{cell.textContent}}|${{cell.title}}`)js",
                            rank + 1));
  };
  EXPECT_EQ(slowness(0), "|1.00|");
  EXPECT_EQ(slowness(1), "warn|\u25b2 2.00|slower than rank 0");
}

TEST_F(BrowserTest, TheSliderShowsAnEarlierStepAndStaysThere) {
  const auto add_steps = [this](int from, int to) {
    for (int step = from; step <= to; step += 5) {
      files_.append("routing.jsonl", RunFiles::routing(step));
    }
  };
  add_steps(15, 50);
  open();
  const auto wait_for_step = [this](int step) {
    wait_for(fmt::format(
        "document.getElementById('load-step').textContent == '{}'", step));
  };
  wait_for_step(50);
  const std::size_t newest = picture_of("load");
  focus("load-slider");
  press({"Home"});
  wait_for_step(5);
  EXPECT_NE(picture_of("load"), newest);
  press({"End", "ArrowLeft"});
  wait_for_step(45);
  EXPECT_EQ(read(R"js(return document.getElementById('load-slider')
      .getAttribute('aria-valuetext'))js"),
            "step 45");
  EXPECT_THAT(read(R"js(return document.getElementById('load')
      .getAttribute('aria-label'))js"),
              HasSubstr("at step 45."));
  // Of so many only every other is kept.
  add_steps(55, 200);
  wait_for("routing.snapshots.at(-1).step == 200");
  wait_for_step(45);
  press({"End"});
  wait_for_step(200);
  add_steps(205, 205);
  wait_for_step(205);
}

TEST_F(BrowserTest, ALogIsChosenAndFollowed) {
  open();
  EXPECT_EQ(text_of("log"), "of rank 0\n");
  focus("log-select");
  press({"Home"});
  wait_for(
      "document.getElementById('log').textContent == "
      "'of the launcher\\n'");
  press({"End"});
  wait_for("document.getElementById('log').textContent == 'of rank 1\\n'");
  const auto write_more = [this](const std::string& last) {
    for (int i = 0; i < 200; ++i) files_.append("ranks/1/log.txt", "more\n");
    files_.append("ranks/1/log.txt", last + "\n");
    wait_for(
        fmt::format("document.getElementById('log').textContent"
                    ".endsWith('{}\\n')",
                    last));
  };
  const char* kLeft = R"js(const log = document.getElementById('log');
      return log.scrollHeight - log.clientHeight - log.scrollTop < 2)js";
  write_more("first");
  EXPECT_EQ(read(kLeft), true);
  focus("log-follow");
  press({"Space"});
  write_more("second");
  EXPECT_EQ(read(kLeft), false);
  press({"Space"});
  EXPECT_EQ(read(kLeft), true);
}

}  // namespace
}  // namespace catena::launcher
