#pragma once

#include <exception>
#include <string>
#include <string_view>

#include "runtime/base/error.h"

namespace catena {

/// Ranks did not find each other: it may be tried again.
class NotAssembled : public Error {
 public:
  using Error::Error;
};

/// What an exception that ends a program means.
struct Failed {
  int code = 0;  ///< launcher/contract.h
  std::string text;
};
[[nodiscard]] Failed explain(const std::exception_ptr& error);

/// Whether a rank ends as another one did not do its part in time.
[[nodiscard]] bool is_missed(const Failed& failed);

/// Whether a rank that says this ended because another one did.
[[nodiscard]] bool is_consequence(std::string_view text);

}  // namespace catena
