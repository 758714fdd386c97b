// A library for LD_PRELOAD: a disk in trouble. What a program writes below a
// folder named "checkpoints" waits or fails as the file that CATENA_TROUBLE
// names says, from the moment it is there until it is gone. It holds the name
// of a call and what befalls it, such as "fsync wait", "write 122" (an error
// number) or "renameat2 kill", and, if not all of that folder is meant, the
// pattern of a path. A kill happens once. The file that CATENA_DISK_LOG names
// gets a line for every such call that went well: its name and path, and for
// one that renames both paths.

#include <dlfcn.h>
#include <fnmatch.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

// Returns the error number that the call is to fail with, or 0.
int trouble(const char* call, const char* path) {
  const char* const file = std::getenv("CATENA_TROUBLE");
  if (file == nullptr || std::strstr(path, "/checkpoints/") == nullptr) {
    return 0;
  }
  for (;; ::usleep(1000)) {
    std::FILE* const open = std::fopen(file, "re");
    if (open == nullptr) return 0;
    char name[16] = "", what[16] = "", where[64] = "";
    const int words = std::fscanf(open, "%15s %15s %63s", name, what, where);
    std::fclose(open);
    if (words < 2 || std::strcmp(name, call) != 0) return 0;
    if (words > 2 && ::fnmatch(where, path, 0) != 0) return 0;
    if (std::strcmp(what, "kill") == 0) {
      ::unlink(file);
      ::kill(::getpid(), SIGKILL);
    }
    if (std::strcmp(what, "wait") != 0) return std::atoi(what);
  }
}

struct Path {
  explicit Path(int descriptor) {
    char link[64];
    std::snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    const ssize_t size = ::readlink(link, text, sizeof text - 1);
    text[size < 0 ? 0 : size] = '\0';
  }
  char text[4096];
};

void note(const char* call, const char* path, const char* to = "") {
  const char* const file = std::getenv("CATENA_DISK_LOG");
  // The folder itself, too.
  if (file == nullptr || std::strstr(path, "/checkpoints") == nullptr) return;
  const int before = errno;
  if (std::FILE* const log = std::fopen(file, "ae")) {
    std::fprintf(log, "%s %s %s\n", call, path, to);
    std::fclose(log);
  }
  errno = before;
}

template <class Function>
Function* real(const char* name) {
  return reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, name));
}

bool fails(int error) {
  if (error != 0) errno = error;
  return error != 0;
}

}  // namespace

extern "C" {

ssize_t write(int descriptor, const void* data, size_t size) {
  static auto* const next = real<decltype(::write)>("write");
  const Path path(descriptor);
  if (fails(trouble("write", path.text))) return -1;
  const ssize_t count = next(descriptor, data, size);
  if (count > 0) note("write", path.text);
  return count;
}

int fsync(int descriptor) {
  static auto* const next = real<decltype(::fsync)>("fsync");
  const Path path(descriptor);
  if (fails(trouble("fsync", path.text))) return -1;
  const int result = next(descriptor);
  if (result == 0) note("fsync", path.text);
  return result;
}

int rename(const char* from, const char* to) noexcept {
  static auto* const next = real<decltype(::rename)>("rename");
  const int result = next(from, to);
  if (result == 0) note("rename", from, to);
  return result;
}

int renameat2(int from_folder, const char* from, int to_folder, const char* to,
              unsigned int flags) noexcept {
  static auto* const next = real<decltype(::renameat2)>("renameat2");
  if (fails(trouble("renameat2", from))) return -1;
  const int result = next(from_folder, from, to_folder, to, flags);
  if (result == 0) note("renameat2", from, to);
  return result;
}

}  // extern "C"
