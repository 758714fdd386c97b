#include "parallel/shared_memory/neighbours.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "parallel/shared_memory/name.h"
#include "runtime/base/error.h"
#include "runtime/base/hash.h"
#include "runtime/base/log.h"

namespace catena::shared_memory {
namespace {

constexpr const char* kMade = "made";
constexpr const char* kNone = "none";

/// A name in /dev/shm, without a byte.
class Mark {
 public:
  explicit Mark(std::string name)
      : name_(std::move(name)), descriptor_(make_name(name_)) {
    if (made()) return;
    log::warning(
        "[shared memory] /dev/shm{} cannot be made: {}; rows to ranks of this "
        "node go as those to others",
        name_, std::strerror(errno));
  }
  ~Mark() {
    if (!made()) return;
    shm_unlink(name_.c_str());
    ::close(descriptor_);
  }
  Mark(const Mark&) = delete;
  Mark& operator=(const Mark&) = delete;
  [[nodiscard]] bool made() const { return descriptor_ >= 0; }

 private:
  std::string name_;
  int descriptor_;
};

/// Only of this user, so that two ranks see each other or neither does.
bool is_seen(const std::string& name) {
  const int descriptor = shm_open(name.c_str(), O_RDWR, 0);
  if (descriptor < 0) return false;
  struct stat status {};
  const bool seen =
      fstat(descriptor, &status) == 0 && status.st_uid == geteuid();
  ::close(descriptor);
  return seen;
}

class Search {
 public:
  Search(Store& store, int rank, const NeighbourOptions& options)
      : store_(store), rank_(rank), options_(options) {}

  std::vector<int> run(int size) const {
    sweep_abandoned(options_.token);
    const Mark own(mark_of(rank_));
    store_.set(key("mark", rank_), own.made() ? kMade : kNone);
    int first = 0;
    while (first < rank_ && !(own.made() && shares(first))) ++first;
    store_.set(key("first", rank_), fmt::format("{}", first));
    // When all have said so, nobody looks for marks any more.
    std::vector<int> all;
    for (int other = 0; other < size; ++other) {
      all.push_back(std::stoi(get("first", other)));
    }
    return all;
  }

 private:
  [[nodiscard]] std::string mark_of(int rank) const {
    return fmt::format("{}{}-at-{}", name_prefix(options_.token), rank,
                       hexadecimal(hash64(options_.node)));
  }
  [[nodiscard]] std::string key(const char* what, int rank) const {
    return fmt::format("{}/{}/{}", options_.token, what, rank);
  }
  [[nodiscard]] std::string get(const char* what, int rank) const {
    try {
      return store_.get(key(what, rank), options_.deadline);
    } catch (const Error& error) {
      fail(error.kind(),
           "rank {} has waited {:.3g} s for rank {} to say where it is: {}",
           rank_, options_.deadline.count(), rank, error.what());
    }
  }
  [[nodiscard]] bool shares(int other) const {
    return get("mark", other) == kMade && is_seen(mark_of(other));
  }

  Store& store_;
  const int rank_;
  const NeighbourOptions& options_;
};

}  // namespace

std::vector<int> find_neighbours(Store& store, int rank, int size,
                                 const NeighbourOptions& options) {
  return Search(store, rank, options).run(size);
}

}  // namespace catena::shared_memory
