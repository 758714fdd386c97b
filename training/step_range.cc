#include "training/step_range.h"

#include "runtime/base/error.h"

namespace catena {

StepRange parse_steps(const std::string& text, const std::string& said) {
  StepRange range;
  const auto colon = text.find(':');
  const auto number = [&](const std::string& part, std::int64_t& step) {
    if (part.empty() && colon != std::string::npos) return;
    if (part.empty() || part.size() > 12 ||
        part.find_first_not_of("0123456789") != std::string::npos) {
      fail(ErrorKind::kUsage,
           "{}: give the first and the last step, such as 1:100, or one step",
           said);
    }
    step = std::stoll(part);
  };
  number(text.substr(0, colon), range.first);
  if (colon == std::string::npos) {
    range.last = range.first;
  } else {
    number(text.substr(colon + 1), range.last);
  }
  if (range.first < 1 || range.last < range.first) {
    fail(ErrorKind::kUsage,
         "{}: steps count from 1, and the first comes before the last", said);
  }
  return range;
}

}  // namespace catena
