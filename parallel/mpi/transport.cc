#include "parallel/mpi/transport.h"

#include <algorithm>
#include <array>
#include <condition_variable>
#include <cstring>
#include <exception>
#include <memory>
#include <mutex>
#include <new>
#include <thread>
#include <utility>
#include <vector>

#include "parallel/complaint.h"
#include "parallel/mpi/check.h"
#include "runtime/base/log.h"

namespace catena::mpi {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kAlignment = 64;
/// How often messages are moved on while this rank computes.
constexpr std::chrono::microseconds kPulse(200);

/// What goes first of every message, and of a short one is all: the same size
/// on both sides, so that two that are not in step notice.
struct Block {
  static constexpr std::int64_t kShortBytes = 496;
  std::uint64_t tag = 0;
  std::int64_t bytes = 0;
  std::array<std::byte, kShortBytes> data{};
};
static_assert(sizeof(Block) == 512);

/// One side of a message under way.
struct Message {
  int peer = 0;
  bool sends = false;
  std::byte* data = nullptr;
  std::int64_t bytes = 0;
  std::uint64_t tag = 0;
  std::int64_t* open = nullptr;
  int requests = 0;    ///< not yet done
  bool known = false;  ///< the block has come
  int error = MPI_SUCCESS;
  Block block;
};

/// Tags are below 32768, which every MPI allows. MPI keeps the order of equal
/// ones, so numbers may come around.
int mpi_tag(bool data, int lane, std::uint64_t number) {
  return static_cast<int>((data ? 1 : 0) << 13 | lane << 10 | (number & 0x3ff));
}

/// `mutex_` protects everything; whoever holds it calls MPI. Only the rank's
/// thread touches `open`s and throws.
class MpiTransport final : public Transport {
 public:
  explicit MpiTransport(const Options& options);
  ~MpiTransport() override;

  [[nodiscard]] int rank() const override { return rank_; }
  [[nodiscard]] int size() const override { return size_; }
  [[nodiscard]] std::string_view description() const override {
    return "Open MPI";
  }

  void send(int to, int lane, const void* data, std::int64_t bytes,
            std::uint64_t tag, std::int64_t& open) override {
    post(true, to, lane, const_cast<void*>(data), bytes, tag, open);
  }
  void receive(int from, int lane, void* data, std::int64_t bytes,
               std::uint64_t tag, std::int64_t& open) override {
    post(false, from, lane, data, bytes, tag, open);
  }
  void progress() override;
  void abandon(std::string_view why) noexcept override {
    const std::lock_guard lock(mutex_);
    end_all(why);
  }
  [[nodiscard]] bool abandons_by_exit() const override { return true; }

  [[nodiscard]] void* allocate(std::size_t bytes) override {
    return ::operator new(bytes, std::align_val_t(kAlignment));
  }
  void release(void* data, std::size_t) noexcept override {
    ::operator delete(data, std::align_val_t(kAlignment));
  }

 private:
  void end_all(std::string_view why) noexcept;
  void duplicate(const Options& options);
  void post(bool sends, int peer, int lane, void* data, std::int64_t bytes,
            std::uint64_t tag, std::int64_t& open);
  [[nodiscard]] Message& take_message();
  void start(Message& message, void* data, std::int64_t bytes, int tag);
  void pump();
  void step();
  void done(Message& message, bool head, int error);
  void check(const Message& message);

  const Options options_;
  const int exceptions_ = std::uncaught_exceptions();
  MPI_Comm all_ = MPI_COMM_NULL;
  int rank_ = 0, size_ = 0;

  std::mutex mutex_;
  std::condition_variable wake_;
  bool stop_ = false, idle_ = false;
  std::string failure_;  ///< what the pump could not throw
  /// How many messages were posted, by peer, lane and direction.
  std::vector<std::uint64_t> numbers_;
  // Requests under way, whose they are, and whether they are of blocks.
  struct Owner {
    Message* message;
    bool head;
  };
  std::vector<MPI_Request> requests_;
  std::vector<Owner> owners_;
  std::vector<int> ready_;
  std::vector<MPI_Status> statuses_;
  std::vector<std::unique_ptr<Message>> messages_;
  std::vector<Message*> free_, through_;
  std::thread pump_;
};

MpiTransport::MpiTransport(const Options& options) : options_(options) {
  duplicate(options);
  CATENA_MPI(MPI_Comm_set_errhandler(all_, MPI_ERRORS_RETURN));
  CATENA_MPI(MPI_Comm_rank(all_, &rank_));
  CATENA_MPI(MPI_Comm_size(all_, &size_));
  numbers_.resize(static_cast<std::size_t>(size_ * kLanes * 2));
  pump_ = std::thread([this] { pump(); });
}

void MpiTransport::duplicate(const Options& options) {
  MPI_Request request = MPI_REQUEST_NULL;
  CATENA_MPI(MPI_Comm_idup(MPI_COMM_WORLD, &all_, &request));
  const auto begin = Clock::now();
  for (int found = 0; found == 0; std::this_thread::yield()) {
    CATENA_MPI(MPI_Test(&request, &found, MPI_STATUS_IGNORE));
    if (found == 0 && Clock::now() - begin > options.deadline) {
      fail(ErrorKind::kTimeout,
           "[mpi] some rank has not come within {:.3g} s: does every rank run "
           "the same program?",
           options.deadline.count());
    }
  }
}

MpiTransport::~MpiTransport() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_one();
  pump_.join();
  // By an exception, this process ends, too: MPI is called no more.
  if (std::uncaught_exceptions() > exceptions_) return;
  if (!requests_.empty()) end_all("it ends while messages are under way");
  MPI_Comm_free(&all_);
}

void MpiTransport::end_all(std::string_view why) noexcept {
  log::error("rank {} gives up, and MPI ends all ranks: {}", rank_, why);
  MPI_Abort(all_, options_.exit_code);
}

Message& MpiTransport::take_message() {
  if (free_.empty()) {
    messages_.push_back(std::make_unique<Message>());
    free_.push_back(messages_.back().get());
  }
  Message& message = *free_.back();
  free_.pop_back();
  return message;
}

void MpiTransport::post(bool sends, int peer, int lane, void* data,
                        std::int64_t bytes, std::uint64_t tag,
                        std::int64_t& open) {
  CATENA_CHECK(peer >= 0 && peer < size() && peer != rank() && lane >= 0 &&
                   lane < kLanes,
               "[transport] rank {} posts to {} of {}, lane {}", rank(), peer,
               size(), lane);
  const std::lock_guard lock(mutex_);
  std::uint64_t& number = numbers_[static_cast<std::size_t>(
      (peer * kLanes + lane) * 2 + (sends ? 1 : 0))];
  Message& m = take_message();
  m.peer = peer;
  m.sends = sends;
  m.data = static_cast<std::byte*>(data);
  m.bytes = bytes;
  m.tag = tag;
  m.open = &open;
  m.requests = 0;
  m.known = false;
  m.error = MPI_SUCCESS;
  const bool is_long = bytes > Block::kShortBytes;
  if (sends) {
    m.block.tag = tag;
    m.block.bytes = bytes;
    if (!is_long && bytes > 0) {
      std::memcpy(m.block.data.data(), data, static_cast<std::size_t>(bytes));
    }
  }
  ++open;
  start(m, &m.block, sizeof m.block, mpi_tag(false, lane, number));
  owners_.back().head = true;
  for (std::int64_t at = 0; is_long && at < bytes; at += options_.piece_bytes) {
    start(m, m.data + at, std::min(options_.piece_bytes, bytes - at),
          mpi_tag(true, lane, number));
  }
  ++number;
  if (std::exchange(idle_, false)) wake_.notify_one();
}

void MpiTransport::start(Message& message, void* data, std::int64_t bytes,
                         int tag) {
  MPI_Request request = MPI_REQUEST_NULL;
  const int count = static_cast<int>(bytes);
  if (message.sends) {
    CATENA_MPI(
        MPI_Isend(data, count, MPI_BYTE, message.peer, tag, all_, &request));
  } else {
    CATENA_MPI(
        MPI_Irecv(data, count, MPI_BYTE, message.peer, tag, all_, &request));
  }
  requests_.push_back(request);
  owners_.push_back({&message, false});
  ++message.requests;
}

void MpiTransport::progress() {
  const std::lock_guard lock(mutex_);
  step();
  if (!failure_.empty()) fail(ErrorKind::kCommunication, "{}", failure_);
  for (Message* message : through_) {
    --*message->open;
    free_.push_back(message);
  }
  through_.clear();
}

void MpiTransport::pump() {
  std::unique_lock lock(mutex_);
  while (!stop_) {
    idle_ = requests_.empty() || !failure_.empty();
    if (idle_) {
      wake_.wait(lock);
      continue;
    }
    step();
    wake_.wait_for(lock, kPulse);
  }
}

void MpiTransport::step() {
  if (requests_.empty() || !failure_.empty()) return;
  ready_.resize(requests_.size());
  statuses_.resize(requests_.size());
  int count = 0;
  const int code =
      MPI_Testsome(static_cast<int>(requests_.size()), requests_.data(), &count,
                   ready_.data(), statuses_.data());
  if (code != MPI_SUCCESS && code != MPI_ERR_IN_STATUS) {
    failure_ = "[mpi] MPI_Testsome: " + text_of_error(code);
    return;
  }
  if (count <= 0) return;  // none, or MPI_UNDEFINED
  // A status says so of an error only if the call does.
  for (int i = 0; i < count; ++i) {
    const Owner& owner =
        owners_[static_cast<std::size_t>(ready_[static_cast<std::size_t>(i)])];
    done(*owner.message, owner.head,
         code == MPI_SUCCESS
             ? MPI_SUCCESS
             : statuses_[static_cast<std::size_t>(i)].MPI_ERROR);
  }
  std::size_t kept = 0;
  for (std::size_t i = 0; i < requests_.size(); ++i) {
    if (requests_[i] == MPI_REQUEST_NULL) continue;
    requests_[kept] = requests_[i];
    owners_[kept++] = owners_[i];
  }
  requests_.resize(kept);
  owners_.resize(kept);
}

void MpiTransport::done(Message& message, bool head, int error) {
  --message.requests;
  if (error != MPI_SUCCESS) message.error = error;
  message.known = message.known || head;
  if (message.known) check(message);
  if (message.requests > 0) return;
  if (!message.sends && message.bytes > 0 &&
      message.bytes <= Block::kShortBytes) {
    std::memcpy(message.data, message.block.data.data(),
                static_cast<std::size_t>(message.bytes));
  }
  through_.push_back(&message);
}

/// A long message of another length than expected may fail before its block
/// says what it is.
void MpiTransport::check(const Message& message) {
  if (!message.sends && (message.block.tag != message.tag ||
                         message.block.bytes != message.bytes)) {
    end_all(not_in_step({message.peer, message.block.bytes, message.block.tag},
                        {rank_, message.bytes, message.tag}));
  }
  if (message.error != MPI_SUCCESS) {
    end_all(fmt::format("[mpi] a message between ranks {} and {}: {}", rank_,
                        message.peer, text_of_error(message.error)));
  }
}

}  // namespace

std::unique_ptr<Transport> connect(const Options& options) {
  CATENA_CHECK(options.piece_bytes > 0 && options.piece_bytes <= 1 << 30,
               "[mpi] pieces of {} bytes", options.piece_bytes);
  return std::make_unique<MpiTransport>(options);
}

}  // namespace catena::mpi
