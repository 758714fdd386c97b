#pragma once

#include <signal.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "runtime/safetensors.h"
#include "tests/training/run_fixture.h"
#include "training/checkpoint/tensors.h"

namespace catena {

/// Twelve steps in float64, a checkpoint every fourth.
class RanksFixture : public RunFixture {
 protected:
  [[nodiscard]] std::string by(int ranks, int expert, const std::string& run,
                               const std::string& more = "") const {
    return rank_of(expert, run, fmt::format("--ranks {} {}", ranks, more));
  }
  /// The same, without saying how many ranks there are.
  [[nodiscard]] std::string rank_of(int expert, const std::string& run,
                                    const std::string& more = "") const {
    return small(run, fmt::format("--set parallel.expert={} --set "
                                  "train.steps=12 --set checkpoint.every=4 "
                                  "--set train.precision=float64 {}",
                                  expert, more));
  }
  /// Weights and moments of the newest checkpoint, by name.
  [[nodiscard]] std::map<std::string, std::vector<double>> state(
      const std::string& run) const {
    std::map<std::string, std::vector<double>> result;
    const auto place = newest_checkpoint(checkpoints(run));
    if (!place.has_value()) {
      ADD_FAILURE() << run << " has no checkpoint";
      return result;
    }
    for (const char* prefix : {"model", "optimizer"}) {
      for (const fs::path& path : tensor_files(place->folder, prefix)) {
        const Safetensors file = Safetensors::open(path);
        for (const std::string& name : file.names()) {
          const auto data = file.find(name).data;
          std::vector<double> values(data.size() / sizeof(double));
          std::memcpy(values.data(), data.data(), data.size());
          EXPECT_TRUE(result.emplace(name, values).second) << name << " twice";
        }
      }
    }
    return result;
  }
  void expect_same_run(const std::string& found,
                       const std::string& expected) const {
    const auto losses_found = losses(found), losses_expected = losses(expected);
    ASSERT_EQ(losses_found.size(), losses_expected.size());
    for (std::size_t i = 0; i < losses_found.size(); ++i) {
      EXPECT_EQ(losses_found[i].first, losses_expected[i].first);
      EXPECT_NEAR(losses_found[i].second, losses_expected[i].second, 1e-9);
    }
    const auto state_found = state(found), state_expected = state(expected);
    EXPECT_EQ(state_found.size(), state_expected.size());
    for (const auto& [name, values] : state_expected) {
      ASSERT_TRUE(state_found.contains(name)) << name;
      const auto& others = state_found.at(name);
      ASSERT_EQ(others.size(), values.size()) << name;
      for (std::size_t i = 0; i < values.size(); ++i) {
        ASSERT_NEAR(others[i], values[i], 1e-7) << name << ", element " << i;
      }
    }
  }
  /// Processes of this test that are ranks, by parent.
  static std::vector<pid_t> children_of(pid_t parent) {
    std::vector<pid_t> result;
    for (const auto& entry : fs::directory_iterator("/proc")) {
      const std::string name = entry.path().filename().string();
      if (name.find_first_not_of("0123456789") != std::string::npos) continue;
      std::ifstream file(entry.path() / "stat");
      std::string text;
      std::getline(file, text);
      const auto end = text.rfind(')');
      if (end == std::string::npos) continue;
      std::istringstream rest(text.substr(end + 1));
      char status = 0;
      pid_t of = 0;
      rest >> status >> of;
      if (of == parent) result.push_back(std::stoi(name));
    }
    std::sort(result.begin(), result.end());
    return result;
  }
  static std::set<std::string> shared_names() {
    std::set<std::string> names;
    for (const auto& entry : fs::directory_iterator("/dev/shm")) {
      const std::string name = entry.path().filename().string();
      if (name.starts_with("catena-")) names.insert(name);
    }
    return names;
  }
  /// Other tests may be at work there, and give back what they took.
  void expect_nothing_left() const {
    wait_until("an empty /dev/shm", [&] {
      const auto now = shared_names();
      return std::all_of(now.begin(), now.end(), [&](const auto& name) {
        return before_.contains(name);
      });
    });
  }

  /// One rank says why a run ends; the others do not say it again.
  static int errors_in(const std::string& log) {
    int count = 0;
    for (std::size_t at = log.find("error: "); at != std::string::npos;
         at = log.find("error: ", at + 1)) {
      ++count;
    }
    return count;
  }

  void expect_place_named(int signal, const std::string& more) {
    expect_place_named(signal, 2, [&](const std::string& run) {
      return start(by(2, 2, run, more + kMissed));
    });
  }
  /// The last rank is hit where it happens to be, until that was inside the
  /// model: by then what is said must name the exchange, layer, iteration and
  /// chunk. `start_run` starts a run of this name that misses ranks.
  template <class Start>
  void expect_place_named(int signal, std::size_t size,
                          const Start& start_run) {
    const std::regex place(
        R"( in [a-z_]+ \([a-z ]+, layer \d+, iteration \d+, chunk \d+\))");
    std::string said;
    for (int trial = 0; trial < 20; ++trial) {
      const std::string run = fmt::format("hit-{}-{}", signal, trial);
      const pid_t parent = start_run(run);
      wait_for_step(run, 3);
      const auto ranks = children_of(parent);
      ASSERT_EQ(ranks.size(), size);
      ::kill(ranks.back(), signal);
      said = wait(parent).err;
      expect_nothing_left();
      if (std::regex_search(said, place)) return;
    }
    FAIL() << "not once in twenty trials; at last: " << said;
  }

  /// A run that does not end by itself.
  static constexpr const char* kMissed =
      " --set train.steps=100000 --set parallel.timeout=2";
  std::set<std::string> before_ = shared_names();
};

}  // namespace catena
