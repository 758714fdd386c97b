#include "launcher/journal.h"

#include <fcntl.h>
#include <fmt/chrono.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

#include "runtime/base/error.h"
#include "runtime/base/files.h"

namespace catena::launcher {
namespace {

// In the order in which it is told.
using Json = nlohmann::ordered_json;
using std::chrono::milliseconds;

constexpr int kJournalSchema = 1;
constexpr double kMillisecond = 1000;

std::string now_text() {
  const auto now = std::chrono::floor<milliseconds>(
      std::chrono::system_clock::now().time_since_epoch());
  const auto seconds = std::chrono::floor<std::chrono::seconds>(now);
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03}Z",
                     fmt::gmtime(std::time_t{seconds.count()}),
                     (now - seconds).count());
}

[[noreturn]] void fail_io(const std::filesystem::path& path, const char* what,
                          int error) {
  fail(ErrorKind::kIo, "{}: cannot {}: {}", path.string(), what,
       std::strerror(error));
}

Json json_of(const Cause& cause) {
  return {{"rank", cause.rank},
          {"host", cause.host},
          {"code", cause.code},
          {"signal", cause.ending.signal},
          {"text", cause.text}};
}

bool tells_cause(JobPhase phase) {
  return phase == JobPhase::kRestarting || is_end(phase);
}

}  // namespace

class Journal::Line {
 public:
  Line(const Journal& journal, int generation, Json more) {
    const std::chrono::duration<double> since =
        std::chrono::steady_clock::now() - journal.begin_;
    json_ = {
        {"time", now_text()},
        {"seconds", std::round(since.count() * kMillisecond) / kMillisecond},
        {"job", journal.job_},
        {"generation", generation}};
    json_.update(more);
  }
  [[nodiscard]] std::string text() const {
    // What ranks write may be no UTF-8.
    return json_.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  }

 private:
  Json json_;
};

Journal::Journal(std::filesystem::path path, std::string job)
    : path_(std::move(path)), job_(std::move(job)) {
  constexpr int kMode = 0644;
  descriptor_ =
      ::open(path_.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, kMode);
  if (descriptor_ < 0) fail_io(path_, "be opened", errno);
  try {
    cut_torn_line();
    add(Line(*this, 0,
             {{"state", name_of(JobPhase::kNew)},
              {"schema", kJournalSchema},
              {"process", ::getpid()},
              {"version", CATENA_VERSION}}));
  } catch (const Error&) {
    ::close(descriptor_);
    throw;
  }
}

Journal::~Journal() { ::close(descriptor_); }

void Journal::cut_torn_line() const {
  const std::string text = read_file(path_);
  const std::size_t whole = text.rfind('\n') + 1;  // 0 where there is none
  if (whole != text.size() &&
      ::ftruncate(descriptor_, static_cast<off_t>(whole)) != 0) {
    fail_io(path_, "be cut to whole lines", errno);
  }
}

void Journal::add(const Line& line) {
  CATENA_CHECK(!ended_, "{}: the job has ended, and cannot go on", job_);
  const std::string text = line.text();
  const off_t before = ::lseek(descriptor_, 0, SEEK_END);
  const ssize_t count = ::write(descriptor_, text.data(), text.size());
  if (count == static_cast<ssize_t>(text.size())) return;
  const int error = count < 0 ? errno : ENOSPC;
  if (count > 0 && ::ftruncate(descriptor_, before) != 0) {
    fail_io(path_, "be cut to whole lines", errno);
  }
  fail_io(path_, "be written", error);
}

void Journal::moved(const JobState& state, const Moved& moved) {
  Json more = {{"state", name_of(moved.phase)},
               {"step", state.step},
               {"checkpoint_step", state.checkpoint_step},
               {"restarts", state.policy.restarts}};
  if (is_end(moved.phase)) more["exit_code"] = state.exit_code;
  if (tells_cause(moved.phase) && state.cause) {
    more["cause"] = json_of(*state.cause);
  }
  add(Line(*this, moved.generation, std::move(more)));
  if (!is_end(moved.phase)) return;
  ended_ = true;
  if (::fsync(descriptor_) != 0) fail_io(path_, "be put on the disk", errno);
}

void Journal::rank_ended(const RankEnded& ended) {
  const RankEnding& ending = ended.ending;
  add(Line(*this, ended.generation,
           {{"rank", ending.rank},
            {"process", ending.process},
            {"code", ending.code},
            {"signal", ending.signal},
            {"done", ending.done},
            {"lost", ending.lost},
            {"stopped", ending.stopped},
            {"hung", ending.hung},
            {"step", ending.step},
            {"section", ending.section}}));
}

}  // namespace catena::launcher
