#include "launcher/monitor/site.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <fstream>

#include "launcher/monitor/assets.h"
#include "launcher/monitor/run_json.h"
#include "launcher/run_files.h"

namespace catena::launcher {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kBetweenReads(200);
constexpr std::chrono::milliseconds kPatience(300);
constexpr std::int64_t kLogEnd = 64 << 10;
constexpr const char* kJsonType = "application/json";

double epoch_seconds() {
  const auto now = std::chrono::system_clock::now();
  return std::chrono::duration<double>(now.time_since_epoch()).count();
}

SiteResponse refused(int status, const char* why) {
  return {.status = status, .body = std::string(why) + "\n"};
}

/// The last whole lines of a file; "" where there is none.
std::string end_of(const fs::path& path) {
  std::error_code none;
  if (!fs::is_regular_file(path, none)) return {};
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  const std::int64_t size = file.tellg();
  if (!file || size <= 0) return {};
  const std::int64_t begin = std::max<std::int64_t>(0, size - kLogEnd);
  std::string text(static_cast<std::size_t>(size - begin), '\0');
  file.seekg(begin);
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(file.gcount()));
  if (begin > 0) text.erase(0, text.find('\n') + 1);
  return text;
}

}  // namespace

bool is_address(std::string_view host) {
  std::string name(host.substr(0, 64));
  std::array<unsigned char, sizeof(in6_addr)> address{};
  if (name.starts_with('[')) {
    const auto end = name.find(']');
    if (end == std::string::npos) return false;
    const std::string port = name.substr(end + 1);
    if (!port.empty() && port.front() != ':') return false;
    name = name.substr(1, end - 1);
    return ::inet_pton(AF_INET6, name.c_str(), address.data()) == 1;
  }
  name = name.substr(0, name.find(':'));
  return name == "localhost" ||
         ::inet_pton(AF_INET, name.c_str(), address.data()) == 1;
}

Site::Site(const fs::path& run)
    : reader_(run), seed_(static_cast<std::uint64_t>(epoch_seconds() * 1000)) {}

void Site::refresh() {
  if (Clock::now() < read_at_ + kBetweenReads) return;
  reader_.refresh(kPatience);
  read_at_ = Clock::now();
}

SiteResponse Site::answer(const SiteRequest& request) {
  if (!is_address(request.host)) {
    return refused(403, "Ask for this page by address, or as localhost.");
  }
  if (request.method != "GET" && request.method != "HEAD") {
    return refused(405, "GET and HEAD only.");
  }
  SiteResponse response =
      content(request.target.substr(0, request.target.find('?')));
  if (!response.etag.empty() && response.etag == request.if_none_match) {
    return {.status = 304, .type = {}, .etag = response.etag};
  }
  return response;
}

SiteResponse Site::content(std::string_view target) {
  constexpr std::string_view kApi = "/api/";
  for (const Asset& asset : assets()) {
    if (asset.path == target) {
      return {.type = std::string(asset.type),
              .body = std::string(asset.content)};
    }
  }
  if (target == "/healthz") return {.body = "ok\n"};
  if (target == "/metrics") {
    refresh();
    return {.type = kMetricsType,
            .body = metrics_.text(reader_.view(), epoch_seconds())};
  }
  if (target.starts_with(kApi)) return api(target.substr(kApi.size()));
  return refused(404, "Not found.");
}

SiteResponse Site::api(std::string_view name) {
  constexpr std::string_view kLog = "log/";
  if (name.starts_with(kLog)) return log(name.substr(kLog.size()));
  refresh();
  const RunView& view = reader_.view();
  if (name == "run") {
    return {.type = kJsonType, .body = run_json(view, epoch_seconds())};
  }
  const std::string tag = fmt::format("\"{:x}-{:x}\"", seed_, view.version);
  if (name == "series") {
    return {.type = kJsonType, .body = series_json(view), .etag = tag};
  }
  if (name == "routing") {
    return {.type = kJsonType, .body = routing_json(view), .etag = tag};
  }
  return refused(404, "Not found.");
}

SiteResponse Site::log(std::string_view name) const {
  const fs::path& run = reader_.run();
  if (name == "launcher") return {.body = end_of(run / "launcher.log")};
  int rank = -1;
  const char* end = name.data() + name.size();
  const auto [stop, error] = std::from_chars(name.data(), end, rank);
  if (error != std::errc() || stop != end || rank < 0 ||
      rank >= RunReader::kMostRanks) {
    return refused(404, "Not found.");
  }
  std::error_code none;
  fs::path path = rank_log(run, rank);
  if (!fs::exists(run / "job.json", none) || !fs::exists(path, none)) {
    path = rank == 0 ? run / "log.txt"
                     : run / "ranks" / fmt::format("{}", rank) / "log.txt";
  }
  return {.body = end_of(path)};
}

}  // namespace catena::launcher
