#include "launcher/watch_frame.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>

namespace catena::launcher {
namespace {

constexpr int kLabelWidth = 10, kLeastPlot = 8;
constexpr int kEighths = 8;
constexpr int kMostChartRows = 12, kLeastChartRows = 3, kMostEvents = 6;
constexpr int kUnlimited = 1 << 20;
constexpr double kHundred = 100;
constexpr std::array<const char*, kEighths + 1> kBlocks = {
    " ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
constexpr const char *kRed = "31", *kGreen = "32", *kYellow = "33",
                     *kCyan = "36", *kDim = "2";

/// Means of as many bins as there are columns, or of each point.
std::vector<double> binned(const std::vector<double>& values,
                           std::size_t bins) {
  if (values.size() <= bins) return values;
  std::vector<double> means;
  for (std::size_t bin = 0; bin < bins; ++bin) {
    const std::size_t begin = bin * values.size() / bins;
    const std::size_t end = (bin + 1) * values.size() / bins;
    double sum = 0;
    for (std::size_t i = begin; i < end; ++i) sum += values[i];
    means.push_back(sum / static_cast<double>(end - begin));
  }
  return means;
}

/// Length of the UTF-8 character at `text[i]`, 0 if there is none.
std::size_t character(const std::string& text, std::size_t i) {
  const auto first = static_cast<unsigned char>(text[i]);
  std::size_t length = 0;
  if (first >= 0xc2 && first <= 0xdf) length = 2;
  if (first >= 0xe0 && first <= 0xef) length = 3;
  if (first >= 0xf0 && first <= 0xf4) length = 4;
  // Control characters of the second block move cursors, too.
  if (first == 0xc2 && i + 1 < text.size() &&
      static_cast<unsigned char>(text[i + 1]) < 0xa0) {
    return 0;
  }
  if (length == 0 || i + length > text.size()) return 0;
  for (std::size_t k = 1; k < length; ++k) {
    if ((static_cast<unsigned char>(text[i + k]) & 0xc0) != 0x80) return 0;
  }
  return length;
}

class Frame {
 public:
  Frame(int columns, int rows, bool color)
      : columns_(columns), rows_(rows), color_(color) {}

  void add(const std::string& text, const char* color = nullptr) {
    if (left() == 0) return;
    std::string line = cut(text, columns_);
    if (color_ && color != nullptr) {
      line = fmt::format("\x1b[{}m{}\x1b[0m", color, line);
    }
    lines_.push_back(std::move(line));
  }
  /// Rows that are still free.
  [[nodiscard]] int left() const {
    return std::max(0, rows_ - static_cast<int>(lines_.size()));
  }
  [[nodiscard]] int columns() const { return columns_; }
  [[nodiscard]] std::vector<std::string> take() { return std::move(lines_); }

 private:
  const int columns_, rows_;
  const bool color_;
  std::vector<std::string> lines_;
};

const char* color_of(const RunStatus& status) {
  if (status.state == "FAILED" || status.state == "LOST") return kRed;
  if (status.state == "RUNNING" || status.state == "SUCCEEDED") return kGreen;
  return kYellow;
}

std::string numbers_text(const RunStatus& status) {
  const StepMetrics none;
  const bool any = !status.ranks.empty() && status.ranks[0].newest;
  const StepMetrics& newest = any ? *status.ranks[0].newest : none;
  std::string text = any ? fmt::format("step {}", newest.step) : "no step yet";
  if (newest.loss) text += fmt::format("   loss {:.4f}", *newest.loss);
  if (newest.tokens_per_second) {
    text += "   " + short_number(newest.tokens_per_second) + " tok/s";
  }
  if (newest.imbalance) {
    text += fmt::format("   experts {:.2f}", *newest.imbalance);
  }
  if (newest.waits) {
    text += fmt::format("   exposed communication {:.0f}%",
                        kHundred * *newest.waits);
  }
  if (status.checkpoint_step.value_or(0) > 0) {
    text += fmt::format("   checkpoint {}", *status.checkpoint_step);
  }
  return text;
}

void add_ranks(const RunStatus& status, int most, Frame& frame) {
  const std::vector<std::string> table = rank_table(status);
  if (most < 2) return;
  frame.add(table[0], kDim);
  const int count = static_cast<int>(table.size()) - 1;
  const int shown = count <= most - 1 ? count : most - 2;
  for (int i = 0; i < shown; ++i) {
    const RankStatus& rank = status.ranks[static_cast<std::size_t>(i)];
    const bool fine = rank.state == "running" || status.ended;
    frame.add(table[static_cast<std::size_t>(i) + 1], fine ? nullptr : kYellow);
  }
  if (shown < count) {
    frame.add(
        fmt::format("       ... and {} more: catena status", count - shown),
        kDim);
  }
}

void add_events(const std::vector<std::string>& events, int most,
                Frame& frame) {
  const int count = std::min(static_cast<int>(events.size()), most);
  for (auto at = events.end() - count; at != events.end(); ++at) {
    frame.add(*at, kDim);
  }
}

}  // namespace

std::string cut(const std::string& text, int columns) {
  std::string result;
  int width = 0;
  for (std::size_t i = 0; i < text.size() && width < columns; ++width) {
    const char c = text[i];
    if (c >= ' ' && c <= '~') {
      result += c;
      ++i;
    } else if (const std::size_t length = character(text, i)) {
      result.append(text, i, length);
      i += length;
    } else {
      result += c == '\t' ? ' ' : '?';
      ++i;
    }
  }
  return result;
}

std::vector<std::string> loss_chart(const std::vector<LossPoint>& losses,
                                    int columns, int rows) {
  std::vector<double> finite;
  for (const LossPoint& point : losses) {
    if (std::isfinite(point.loss)) finite.push_back(point.loss);
  }
  const int width = columns - kLabelWidth;
  if (finite.empty() || width < kLeastPlot || rows < 2) return {};
  const auto values = binned(finite, static_cast<std::size_t>(width));
  const auto [low, high] = std::minmax_element(values.begin(), values.end());
  const int plot_rows = rows - 1;
  const double scale =
      *high > *low ? (plot_rows * kEighths - 1) / (*high - *low) : 0;
  std::vector<std::string> lines;
  for (int row = plot_rows - 1; row >= 0; --row) {
    std::string label(kLabelWidth, ' ');
    if (row == 0) label = fmt::format("{:>9.4f} ", *low);
    if (row == plot_rows - 1) label = fmt::format("{:>9.4f} ", *high);
    for (const double value : values) {
      const int level =
          1 + static_cast<int>(std::lround((value - *low) * scale));
      label += kBlocks[static_cast<std::size_t>(
          std::clamp(level - row * kEighths, 0, kEighths))];
    }
    label.erase(label.find_last_not_of(' ') + 1);
    lines.push_back(std::move(label));
  }
  const std::string first = fmt::format("step {}", losses.front().step);
  const std::string last = fmt::format("{}", losses.back().step);
  const int gap = static_cast<int>(values.size() - first.size() - last.size());
  lines.push_back(std::string(kLabelWidth, ' ') + first +
                  std::string(static_cast<std::size_t>(std::max(gap, 3)), ' ') +
                  last);
  return lines;
}

std::vector<std::string> watch_frame(const WatchView& view, int columns,
                                     int rows, bool color) {
  const RunStatus& status = view.status;
  // The last row is the footer's.
  Frame frame(columns, rows == 0 ? kUnlimited : rows - 1, color);
  frame.add(fmt::format("{}   {}", status.run.string(), headline(status)),
            color_of(status));
  frame.add(numbers_text(status));
  const int rank_lines = static_cast<int>(status.ranks.size()) + 1;
  const int events = std::min({static_cast<int>(view.events.size()),
                               kMostEvents, std::max(1, frame.left() / 4)});
  const int spare = frame.left() - events - std::min(rank_lines, 5) - 2;
  const int chart_rows = std::min(spare, kMostChartRows);
  if (chart_rows >= kLeastChartRows) {
    const auto chart = loss_chart(view.losses, columns, chart_rows);
    for (const std::string& line : chart) frame.add(line, kCyan);
  }
  frame.add("");
  add_ranks(status, frame.left() - events - (events > 0 ? 1 : 0), frame);
  if (events > 0) frame.add("");
  add_events(view.events, std::min(events, frame.left()), frame);
  std::vector<std::string> lines = frame.take();
  if (rows > 0) {
    lines.push_back(cut(status.ended ? "ended; q quits" : "q quits", columns));
  }
  return lines;
}

}  // namespace catena::launcher
