#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>

namespace catena {

/// What went wrong, as far as a caller or a scheduler must tell cases apart.
/// `training/main.cc` maps each kind to an exit code of `launcher/contract.h`.
enum class ErrorKind {
  kInvalidArgument,  ///< a caller broke a contract: a bug, not a user's slip
  kUnsupported,      ///< known, but not built here or not offered
  kUsage,            ///< command line
  kConfig,           ///< configuration file, --set, environment
  kData,             ///< foreign bytes that are not what they should be
  kDoesNotFit,       ///< more memory or disk than there is
  kDevice,
  kCommunication,
  kTimeout,
  kIo,         ///< the operating system refused: disk full, permission, ...
  kNonFinite,  ///< a loss, gradient or weight is not a finite number
  kInternal,
};

/// The one exception type. The message says what is wrong, where, and what to
/// do: "data/train.jsonl:17:3: ... ".
class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& message)
      : std::runtime_error(message), kind_(kind) {}
  [[nodiscard]] ErrorKind kind() const { return kind_; }

 private:
  ErrorKind kind_;
};

template <class... Args>
[[noreturn]] void fail(ErrorKind kind, fmt::format_string<Args...> format,
                       Args&&... args) {
  throw Error(kind, fmt::format(format, std::forward<Args>(args)...));
}

namespace internal {
[[noreturn]] void check_failed(const char* condition, const char* file,
                               int line, const std::string& message);
}  // namespace internal

}  // namespace catena

/// Contract check: throws Error(kInvalidArgument) naming the condition, the
/// place and the values. Never compiled out.
///   CATENA_CHECK(a.rows() == b.rows(), "[gemm] rows {} != {}", ...);
#define CATENA_CHECK(condition, ...)                                   \
  do {                                                                 \
    if (!(condition)) [[unlikely]]                                     \
      ::catena::internal::check_failed(#condition, __FILE__, __LINE__, \
                                       ::fmt::format(__VA_ARGS__));    \
  } while (false)
