#include "training/failure.h"

#include <cerrno>
#include <filesystem>
#include <new>

#include "launcher/contract.h"
#include "runtime/base/error.h"

namespace catena {
namespace {

ExitCode exit_code(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kUsage:
      return kExitUsage;
    case ErrorKind::kConfig:
      return kExitConfig;
    case ErrorKind::kUnsupported:
      return kExitConfig;
    case ErrorKind::kData:
      return kExitData;
    case ErrorKind::kDoesNotFit:
      return kExitDoesNotFit;
    case ErrorKind::kIo:
      return kExitStorage;
    case ErrorKind::kNonFinite:
      return kExitNonFinite;
    case ErrorKind::kInvalidArgument:
    case ErrorKind::kDevice:
    case ErrorKind::kCommunication:
    case ErrorKind::kTimeout:
    case ErrorKind::kInternal:
      return kExitInternal;
  }
  return kExitInternal;
}

/// As read_file() has it; but a device that fails may do so no more next time.
ExitCode exit_code(const std::error_code& refused) {
  if (refused == std::errc::no_such_file_or_directory) return kExitData;
  for (const int failing : {EIO, ESTALE, ETIMEDOUT, ENXIO, ENODEV, ENOTCONN}) {
    if (refused.value() == failing) return kExitInternal;
  }
  return kExitStorage;
}

Failed explain_refusal(const std::filesystem::filesystem_error& refused) {
  const std::string cause = refused.code().message();
  std::string path = refused.path1().string();
  if (!refused.path2().empty()) path += ", " + refused.path2().string();
  return {exit_code(refused.code()),
          path.empty() ? refused.what() : fmt::format("{}: {}", path, cause)};
}

}  // namespace

Failed explain(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const NotAssembled& known) {
    return {kExitNotAssembled, known.what()};
  } catch (const Error& known) {
    return {exit_code(known.kind()), known.what()};
  } catch (const std::filesystem::filesystem_error& refused) {
    return explain_refusal(refused);
  } catch (const std::bad_alloc&) {
    return {kExitDoesNotFit,
            "out of memory: lower model.max_positions, "
            "train.micro_batch_tokens or the size of the model"};
  } catch (const std::exception& other) {
    return {kExitInternal,
            fmt::format("internal: {}; please report this", other.what())};
  }
}

bool is_missed(const Failed& failed) {
  return failed.code == kExitInternal &&
         failed.text.find(" has waited ") != std::string::npos;
}

bool is_consequence(std::string_view text) {
  for (const char* words : {" gave up: ", " has died", " has ended"}) {
    if (text.find(words) != std::string_view::npos) return true;
  }
  return false;
}

}  // namespace catena
