#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/base/config.h"
#include "runtime/base/error.h"
#include "runtime/base/launch_config.h"

namespace catena::launcher {

/// What `catena launch` is told, whoever says it. One schema declares all:
/// `[launch]`, and what is of one call alone and so in no file. Of every key a
/// flag and a variable are made:
///
///   launch.max_restarts   --max-restarts                CATENA_MAX_RESTARTS
///   launch.dashboard      --dashboard, --no-dashboard   CATENA_DASHBOARD
///   dry_run               --dry-run, --no-dry-run       CATENA_DRY_RUN
///
/// Of several sources the first of these wins: flag; --set launch.KEY=VALUE;
/// variable (an empty one says nothing); file; default. Where keys are rivals,
/// such as hosts and agents, the winning source's takes the place of the
/// others'. Variables of ranks are taken together, name by name.
class LaunchOptions {
 public:
  LaunchOptions();

  /// Returns an exit code where help was asked for or the arguments are none.
  /// Throws: Error(kUsage) about flags and variables, Error(kConfig) about
  /// the file and --set, with all problems of a source, one a line.
  [[nodiscard]] std::optional<int> read(
      const std::vector<std::string>& arguments);

  std::string config_file;
  LaunchConfig launch;  ///< `env` as NAME=VALUE, each name once
  /// KEY=VALUE of --set, for the trainer: all but those of `[launch]`.
  std::vector<std::string> assignments;
  bool dry_run = false, json = false;

  /// Who said it: "x.toml:3:9", "CATENA_HOSTS", "--set", "--hosts" or
  /// "default".
  [[nodiscard]] std::string origin(std::string_view path) const;
  /// A message that names flags, and behind it where each of these was said,
  /// if not as a flag.
  [[nodiscard]] std::string with_origins(const std::string& message) const;
  [[nodiscard]] const config::Schema& schema() const { return schema_; }

 private:
  using Origins = std::map<std::string, std::string, std::less<>>;
  using Said = std::vector<std::pair<std::string, std::string>>;

  [[nodiscard]] std::optional<int> parse(
      const std::vector<std::string>& arguments, Said& said);

  [[nodiscard]] Origins origins() const;
  void take(ErrorKind kind, const std::function<void()>& apply);
  void set(const std::string& path, const std::string& text,
           const std::string& origin);
  void take_variables();
  void take_flags(const Said& said);
  void take_assignments();
  void settle_rivals(ErrorKind kind, const Origins& before);
  void gather(ErrorKind kind);

  config::Schema schema_;
  std::vector<std::string> set_, all_set_, environment_;
};

/// "launch.max_restarts" -> "--max-restarts", "CATENA_MAX_RESTARTS".
[[nodiscard]] std::string flag_of(std::string_view path);
[[nodiscard]] std::string variable_of(std::string_view path);

}  // namespace catena::launcher
