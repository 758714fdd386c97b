#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "launcher/monitor/run_metrics.h"
#include "launcher/monitor/run_reader.h"

namespace catena::launcher {

struct SiteRequest {
  std::string_view method, target, host;
  std::string_view if_none_match = {};
};

struct SiteResponse {
  int status = 200;
  std::string type = "text/plain; charset=utf-8";
  std::string body = {};
  std::string etag = {};  ///< quoted; "": none
};

/// What is served of one run:
///   /              the page, and its files
///   /metrics       Prometheus text
///   /healthz       "ok"
///   /api/run, /api/series, /api/routing     JSON
///   /api/log/launcher, /api/log/R           the end of a log, of rank R
/// GET and HEAD only (405). Nothing that was asked is repeated in an answer.
/// The Host header has to be an address or localhost (403), so that a page of
/// another site cannot read this one through a name of its own that leads here.
/// The run's files are read when something is asked, at most every 200 ms.
/// Thread rule: one thread.
class Site {
 public:
  explicit Site(const std::filesystem::path& run);

  /// Never throws for anything that the request or the run's files hold.
  [[nodiscard]] SiteResponse answer(const SiteRequest& request);

 private:
  [[nodiscard]] SiteResponse content(std::string_view target);
  [[nodiscard]] SiteResponse api(std::string_view name);
  [[nodiscard]] SiteResponse log(std::string_view name) const;
  void refresh();

  RunReader reader_;
  RunMetrics metrics_;
  std::chrono::steady_clock::time_point read_at_ = {};
  std::uint64_t seed_;  ///< of tags: versions begin anew with every program
};

/// "127.0.0.1:80", "[::1]", "localhost:9": an address or localhost.
[[nodiscard]] bool is_address(std::string_view host);

}  // namespace catena::launcher
