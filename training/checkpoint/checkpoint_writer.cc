#include "training/checkpoint/checkpoint_writer.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <vector>

#include "runtime/base/error.h"
#include "runtime/base/log.h"

namespace catena {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;

constexpr std::chrono::milliseconds kGlance(20);
/// After so long, or a quarter of their deadline, a rank that still writes
/// answers those that wait for it: late enough for them to have said for whom.
constexpr Seconds kTurn(1.5);

WriterPart part_of(const Ranks* ranks) {
  if (ranks == nullptr) return {};
  const int writers = ranks->mesh().expert;
  return {ranks->rank() < writers ? ranks->rank() : -1, writers};
}

}  // namespace

CheckpointWriter::CheckpointWriter(fs::path checkpoints,
                                   const CheckpointConfig& config, Model& model,
                                   Optimizer& optimizer)
    : checkpoints_(std::move(checkpoints)),
      config_(config),
      ranks_(model.ranks()),
      names_(checkpoint_names(model)),
      part_(part_of(ranks_)),
      model_(Snapshot::of_model(model, optimizer)),
      optimizer_(Snapshot::of_moments(model, optimizer)) {
  part_.names = &names_;
  part_.give_up = &give_up_;
  if (part_.number == 0) remove_unfinished_checkpoints(checkpoints_);
}

CheckpointWriter::~CheckpointWriter() {
  give_up_ = true;
  if (thread_.valid()) thread_.wait();
}

void CheckpointWriter::check_folder() const {
  const fs::path probe = checkpoints_ / ".unfinished-probe";
  std::error_code code;
  fs::create_directories(probe, code);
  if (code) {
    fail(ErrorKind::kIo,
         "{}: checkpoints cannot be saved there: {}; mend that, or choose "
         "another folder with --set run.folder=...",
         checkpoints_.string(), code.message());
  }
  fs::remove(probe, code);
  const fs::space_info space = fs::space(checkpoints_, code);
  const auto needed = static_cast<std::uintmax_t>(bytes());
  if (!code && space.available < needed) {
    log::warning("{}: has {} MiB free, a checkpoint takes {} MiB",
                 checkpoints_.string(), space.available >> 20, needed >> 20);
  }
}

void CheckpointWriter::begin(const TrainingState& state) {
  CATENA_CHECK(!busy(), "[checkpoint] one is still under way");
  model_.capture();
  optimizer_.capture();
  state_ = state;
  if (ranks_ != nullptr) {
    try {
      if (part_.number == 0) prepare_checkpoint(checkpoints_, state.step);
    } catch (const Error&) {
      // Whoever writes there finds out, and says so.
    }
    catena::wait(ranks_->world().barrier({}));
  }
  stage_ = ranks_ != nullptr ? Stage::kParts : Stage::kRest;
  part_written_ = give_up_ = false;
  outcome_ = {};
  outcome_.step = state.step;
  thread_ = std::async(std::launch::async, [this] { write(); });
}

void CheckpointWriter::write() {
  const auto start = Clock::now();
  try {
    outcome_.bytes = write_checkpoint(
        checkpoints_, model_, optimizer_, state_,
        [this](std::string_view phase) {
          if (phase == "notes") part_written_ = true;
        },
        part_);
    if (part_.number == 0) remove_old_checkpoints(checkpoints_, config_);
  } catch (const std::exception& error) {
    outcome_.error = error.what();
  }
  outcome_.seconds = Seconds(Clock::now() - start).count();
}

bool CheckpointWriter::thread_ended() const {
  return thread_.wait_for(Seconds(0)) == std::future_status::ready;
}

bool CheckpointWriter::own_ended() const {
  return (stage_ == Stage::kParts && part_written_) || thread_ended();
}

std::optional<CheckpointWriter::Outcome> CheckpointWriter::poll() {
  if (stage_ == Stage::kParts && !parts_ended()) return std::nullopt;
  if (stage_ == Stage::kIdle || !rest_ended()) return std::nullopt;
  stage_ = Stage::kIdle;
  if (outcome_.error.empty()) last_step_ = outcome_.step;
  return outcome_;
}

std::optional<CheckpointWriter::Outcome> CheckpointWriter::wait() {
  while (busy()) {
    wait_for_own();
    if (auto outcome = poll()) return outcome;
  }
  return std::nullopt;
}

/// Those that have ended wait in an exchange, where they say for whom.
void CheckpointWriter::wait_for_own() {
  if (ranks_ == nullptr) return thread_.wait();
  Communicator& world = ranks_->world();
  const auto until = Clock::now() + std::chrono::ceil<Clock::duration>(
                                        std::min(kTurn, world.deadline() / 4));
  while (!own_ended() && Clock::now() < until) {
    thread_.wait_for(kGlance);
    world.transport().advance();
  }
}

bool CheckpointWriter::parts_ended() {
  // In this order: what ends in between is said next time.
  const bool ended = own_ended();
  const bool failed = ended && thread_ended() && !outcome_.error.empty();
  std::array<std::int64_t, 2> writing_failed = {ended ? 0 : 1, failed ? 1 : 0};
  catena::wait(ranks_->world().all_reduce(
      {}, {writing_failed.data(), DType::kInt64, {2}}));
  if (writing_failed[0] > 0) return false;
  stage_ = Stage::kRest;
  give_up_ = writing_failed[1] > 0 && !failed;
  return true;
}

bool CheckpointWriter::rest_ended() {
  enum Said : std::int8_t { kWrites, kWritten, kFailed };
  Said said = kWrites;
  if (thread_ended()) said = outcome_.error.empty() ? kWritten : kFailed;
  if (ranks_ == nullptr) return said != kWrites;
  catena::wait(ranks_->world().broadcast({}, 0, &said, sizeof said));
  if (said == kFailed) share_failure();
  // A part may be whole although its rank was told of an error at its end.
  if (said == kWritten) outcome_.error.clear();
  return said != kWrites;
}

/// The first that failed by itself says why.
void CheckpointWriter::share_failure() {
  Communicator& world = ranks_->world();
  // Others may have written when the first removed it.
  if (part_.number == 0) remove_unfinished_checkpoints(checkpoints_);
  std::vector<std::int64_t> lengths(static_cast<std::size_t>(world.size()));
  std::vector<Communicator::Part> parts;
  for (std::int64_t& length : lengths)
    parts.push_back({&length, sizeof length});
  std::string text = give_up_ ? "" : outcome_.error;
  lengths[static_cast<std::size_t>(world.rank())] =
      static_cast<std::int64_t>(text.size());
  catena::wait(world.all_gather_v({}, parts));
  const auto first =
      std::find_if(lengths.begin(), lengths.end(),
                   [](std::int64_t length) { return length > 0; });
  CATENA_CHECK(first != lengths.end(),
               "[checkpoint] it failed, and nobody knows why");
  const auto rank = static_cast<int>(first - lengths.begin());
  text.resize(static_cast<std::size_t>(*first));
  catena::wait(world.broadcast({}, rank, text.data(), *first));
  if (rank != world.rank()) text = fmt::format("rank {}: {}", rank, text);
  outcome_.error = text;
}

}  // namespace catena
