// The part of Trainer in which ranks agree.

#include <optional>

#include "parallel/nodes.h"
#include "parallel/work.h"
#include "runtime/base/files.h"
#include "runtime/base/hash.h"
#include "training/checkpoint/writer.h"
#include "training/stop.h"
#include "training/trainer.h"

namespace catena {
namespace {

/// Of what a file holds; 0: no file.
std::uint64_t file_hash(const std::string& path) {
  return path.empty() ? 0 : hash64(read_file(path));
}

/// Of the program that runs.
std::uint64_t program_hash() { return hash64(read_file("/proc/self/exe")); }

}  // namespace

data::Dataset Trainer::open_in_turn(const std::vector<std::string>& inputs,
                                    const char* key) {
  if (ranks_ == nullptr) return open_data(config_, inputs, key);
  std::optional<data::Dataset> dataset;
  const auto open = [&] { dataset.emplace(open_data(config_, inputs, key)); };
  for (const bool first : {true, false}) {
    wait_for_work(ranks_->world(), first == leads() ? open : Work());
  }
  return std::move(dataset).value();
}

std::optional<CheckpointPlace> Trainer::agree_on_newest() {
  std::optional<CheckpointPlace> place;
  if (leads()) place = newest_checkpoint(run_.checkpoints());
  if (ranks_ == nullptr) return place;
  std::int64_t step = place.has_value() ? place->step : -1;
  wait(ranks_->world().broadcast({}, 0, &step, sizeof step));
  if (leads() || step < 0) return place;
  const std::filesystem::path folder =
      run_.checkpoints() / checkpoint_name(step);
  static_cast<void>(comes_to_be(folder));
  return open_checkpoint(folder);
}

void Trainer::check_alike() const {
  if (ranks_ == nullptr) return;
  std::string text;
  for (const ConfigAssignment& key : state_.config) {
    if (key.key == "train.threads") continue;  // of each machine
    text += fmt::format("{} = {}\n", key.key, key.value);
  }
  // What others follow from comes before them: the first to differ is named.
  const std::pair<const char*, std::uint64_t> facts[] = {
      {"program", program_hash()},
      {"configuration", hash64(text)},
      {"precision", static_cast<std::uint64_t>(precision_.compute)},
      {"data.tokenizer", hash64(tokenizer_.json())},
      {"data.train", train_data_.hash()},
      {"data.validation", validation_data_.hash()},
      {"parallel.placement_file", file_hash(config_.parallel.placement_file)}};
  constexpr std::size_t kFacts = std::size(facts);
  std::vector<std::uint64_t> of_all(kFacts *
                                    static_cast<std::size_t>(ranks_->size()));
  std::vector<Communicator::Part> parts;
  for (int rank = 0; rank < ranks_->size(); ++rank) {
    parts.push_back({of_all.data() + kFacts * static_cast<std::size_t>(rank),
                     kFacts * sizeof(std::uint64_t)});
  }
  const auto me = static_cast<std::size_t>(ranks_->rank());
  for (std::size_t i = 0; i < kFacts; ++i) {
    of_all[me * kFacts + i] = facts[i].second;
  }
  wait(ranks_->world().all_gather_v({}, parts));
  for (std::size_t rank = 1; rank * kFacts < of_all.size(); ++rank) {
    for (std::size_t i = 0; i < kFacts; ++i) {
      if (of_all[rank * kFacts + i] == of_all[i]) continue;
      fail(ErrorKind::kConfig,
           "rank {} has another {} than rank 0; start all ranks with the same "
           "program, configuration and files",
           rank, facts[i].first);
    }
  }
}

MemorySharers Trainer::memory_sharers(const Estimate& needs) const {
  if (ranks_ == nullptr) return {};
  const Alike here =
      find_alike(ranks_->world(), host_id(), needs.total_bytes());
  return {.world = ranks_->size(),
          .of_machine = here.count,
          .together_bytes = here.sum};
}

std::int64_t Trainer::sum_of(std::int64_t value) {
  if (ranks_ == nullptr) return value;
  wait(ranks_->world().all_reduce({}, {&value, DType::kInt64, {1}}));
  return value;
}

void Trainer::agree_on_requests() {
  constexpr std::int64_t kSave = std::int64_t{1} << 32;
  const std::int64_t said =
      sum_of((stop_signal() != 0 ? 1 : 0) + (take_save_signal() ? kSave : 0));
  stopping_ = said % kSave != 0;
  checkpoint_due_ |= said >= kSave;
}

}  // namespace catena
