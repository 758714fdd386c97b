#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

namespace catena::launcher {

/// Serves Site over HTTP/1.1 on the loopback address, by a thread of its own
/// of low priority, until it is destroyed. It works only when it is asked.
/// Limits: 64 connections, requests of 8 KiB without a body, 5 s for one to
/// come, 15 s idle, 10 s for an answer to be taken.
/// Thread rule: any thread.
class Monitor {
 public:
  /// port: 0 for one that is free.
  /// Throws: Error(kIo) where the port cannot be had.
  Monitor(const std::filesystem::path& run, std::uint16_t port);
  ~Monitor();
  Monitor(const Monitor&) = delete;
  Monitor& operator=(const Monitor&) = delete;

  [[nodiscard]] std::uint16_t port() const;
  [[nodiscard]] std::string address() const;  ///< "http://127.0.0.1:8080/"

 private:
  class Service;
  std::unique_ptr<Service> service_;
};

}  // namespace catena::launcher
