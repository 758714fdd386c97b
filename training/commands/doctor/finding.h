#pragma once

#include <string>
#include <vector>

#include "runtime/backend.h"

/// What `catena doctor` looks at, a function a part of the machine. None
/// throws: what cannot be found out is a finding too.
namespace catena::doctor {

enum class Mark { kGood, kNote, kBad };

struct Finding {
  const char* name;
  Mark mark;
  std::string value;    ///< what is there
  std::string meaning;  ///< what it means for runs; may be empty
};
using Findings = std::vector<Finding>;

/// The compiler of this program and the libraries in it.
[[nodiscard]] Findings program_findings();
/// Instructions, caches, cores and who else uses them.
[[nodiscard]] Findings processor_findings(const Backend& backend);
[[nodiscard]] Findings memory_findings();
/// The current folder's. Writes a sample for a third of a second.
[[nodiscard]] Findings disk_findings();
[[nodiscard]] Findings gpu_findings();
/// What several machines would talk with.
[[nodiscard]] Findings network_findings();
/// Matrix products, a fifth of a second each.
[[nodiscard]] Findings speed_findings(Backend& backend);

}  // namespace catena::doctor
