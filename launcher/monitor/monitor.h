#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

namespace catena::launcher {

/// Where a page is served.
struct MonitorPlace {
  std::uint16_t port = 0;  ///< 0: one that is free
  /// Numeric, of this machine. 0.0.0.0 and [::] are all that it has: then
  /// whoever reaches the machine sees the run.
  std::string address = "127.0.0.1";
};

/// "8080", "0.0.0.0:8080" or "[::1]:8080".
/// Throws: Error(kUsage), saying `from`, the flag or variable that had it.
[[nodiscard]] MonitorPlace parse_place(std::string_view text, const char* from);

/// Serves Site over HTTP/1.1 by a thread of its own
/// of low priority, until it is destroyed. It works only when it is asked.
/// Limits: 64 connections, requests of 8 KiB without a body, 5 s for one to
/// come, 15 s idle, 10 s for an answer to be taken.
/// Thread rule: any thread.
class Monitor {
 public:
  /// Throws: Error(kUsage) where the address is none, Error(kIo) where the port
  /// cannot be had.
  explicit Monitor(const std::filesystem::path& run,
                   const MonitorPlace& place = {});
  ~Monitor();
  Monitor(const Monitor&) = delete;
  Monitor& operator=(const Monitor&) = delete;

  [[nodiscard]] std::uint16_t port() const;
  [[nodiscard]] std::string address() const;  ///< "http://127.0.0.1:8080/"
  /// For people: where it is and, unless that is the loopback, who sees it.
  [[nodiscard]] std::string announcement() const;

 private:
  class Service;
  std::unique_ptr<Service> service_;
};

}  // namespace catena::launcher
