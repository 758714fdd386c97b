#include "runtime/base/lease.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <ctime>
#include <new>
#include <utility>

#include "runtime/base/error.h"

namespace catena {

struct LeaseTerms {
  std::int64_t length;
  std::atomic<std::int64_t> until;
};

namespace {

static_assert(std::atomic<std::int64_t>::is_always_lock_free,
              "processes share it");

/// Of a size that nobody changes: who reads it meets no SIGBUS.
constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

bool is_lease(int descriptor) {
  struct stat status {};
  // Others may be there: where vm.memfd_noexec is set, F_SEAL_EXEC is.
  const int seals = ::fcntl(descriptor, F_GET_SEALS);
  return seals >= 0 && (seals & kSeals) == kSeals &&
         ::fstat(descriptor, &status) == 0 &&
         status.st_size == sizeof(LeaseTerms);
}

void* map(int descriptor, int access) {
  void* page =
      ::mmap(nullptr, sizeof(LeaseTerms), access, MAP_SHARED, descriptor, 0);
  return page == MAP_FAILED ? nullptr : page;
}

}  // namespace

BootTime boot_time() {
  std::timespec time{};
  ::clock_gettime(CLOCK_BOOTTIME, &time);
  return std::chrono::seconds(time.tv_sec) +
         std::chrono::nanoseconds(time.tv_nsec);
}

Lease::Lease(BootTime length, BootTime begin)
    : descriptor_(
          ::memfd_create("catena-lease", MFD_CLOEXEC | MFD_ALLOW_SEALING)) {
  void* page = nullptr;
  if (descriptor_ >= 0 && ::ftruncate(descriptor_, sizeof(LeaseTerms)) == 0 &&
      ::fcntl(descriptor_, F_ADD_SEALS, kSeals) == 0) {
    page = map(descriptor_, PROT_READ | PROT_WRITE);
  }
  if (page == nullptr) {
    const int error = errno;
    if (descriptor_ >= 0) ::close(descriptor_);
    fail(ErrorKind::kIo, "no memory for a lease: {}", std::strerror(error));
  }
  terms_ = new (page) LeaseTerms{length.count(), (begin + length).count()};
}

Lease::~Lease() {
  ::munmap(terms_, sizeof(LeaseTerms));
  ::close(descriptor_);
}

void Lease::renew(BootTime begin) {
  // Held up after this, it writes what is over by then.
  const std::int64_t before = terms_->until;
  if (boot_time().count() >= before) return;
  terms_->until = std::max(before, begin.count() + terms_->length);
}

LeaseView::LeaseView(int descriptor) : terms_(nullptr) {
  if (is_lease(descriptor)) {
    terms_ = static_cast<const LeaseTerms*>(map(descriptor, PROT_READ));
  }
  if (terms_ == nullptr) {
    fail(ErrorKind::kIo, "descriptor {} is not a lease", descriptor);
  }
}

LeaseView::~LeaseView() {
  if (terms_ == nullptr) return;
  ::munmap(const_cast<LeaseTerms*>(terms_), sizeof(LeaseTerms));
}

LeaseView::LeaseView(LeaseView&& other) noexcept
    : terms_(std::exchange(other.terms_, nullptr)) {}

BootTime LeaseView::until() const { return BootTime(terms_->until); }
BootTime LeaseView::length() const { return BootTime(terms_->length); }

}  // namespace catena
