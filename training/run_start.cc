#include "training/run_start.h"

#include <nlohmann/json.hpp>

#include "parallel/communicator.h"
#include "parallel/tcp/handshake.h"
#include "runtime/base/error.h"
#include "runtime/base/files.h"

namespace catena {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

/// The same on all ranks: rank 0's.
std::string shared(Communicator& all, std::string text) {
  auto bytes = static_cast<std::int64_t>(text.size());
  wait(all.broadcast({}, 0, &bytes, sizeof bytes));
  text.resize(static_cast<std::size_t>(bytes));
  wait(all.broadcast({}, 0, text.data(), bytes));
  return text;
}

std::string text_of(const RunStart& decided, const fs::path& sign) {
  return Json{{"folder", decided.run.path.string()},
              {"resume", decided.start.resume.value_or("").string()},
              {"weights", decided.start.weights.value_or("").string()},
              {"sign", sign.string()}}
      .dump();
}

RunStart parse(const Json& json) {
  const auto path = [&](const char* key) -> std::optional<fs::path> {
    const std::string text = json.at(key);
    if (text.empty()) return std::nullopt;
    return text;
  };
  return {.run = {path("folder").value()},
          .start = {.resume = path("resume"), .weights = path("weights")}};
}

void look_for(const fs::path& sign, const RunFolder& run, int rank) {
  if (comes_to_be(sign)) return;
  fail(ErrorKind::kConfig,
       "rank {} does not see what rank 0 wrote to {}: all ranks need the "
       "same run.folder, on a file system that their machines share",
       rank, run.path.string());
}

}  // namespace

RunStart agree_on_start(Transport& transport,
                        std::chrono::duration<double> deadline,
                        const std::function<RunStart()>& decide) {
  Communicator all(transport, deadline);
  if (all.rank() != 0) {
    const Json json = Json::parse(shared(all, ""));
    RunStart decided = parse(json);
    look_for(json.at("sign").get<std::string>(), decided.run, all.rank());
    wait(all.barrier({}));
    return decided;
  }
  RunStart decided = decide();
  const fs::path sign = decided.run.path / (".sign-" + tcp::random_token());
  write_file_atomically(sign, "");
  shared(all, text_of(decided, sign));
  wait(all.barrier({}));
  fs::remove(sign);
  return decided;
}

}  // namespace catena
