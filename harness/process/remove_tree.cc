#include "harness/process/remove_tree.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <ctime>
#include <memory>
#include <string>

#include "harness/os/clock.h"
#include "harness/os/unique_fd.h"

namespace crashworthy {
namespace {

// One descriptor a level is open; what lies deeper is moved up and removed in the next pass.
constexpr int kMaxDepth = 64;
constexpr int kMaxPasses = 1000;

// struct open_how of <linux/openat2.h> (5.6); declared here to build with older headers.
struct OpenHow {
  std::uint64_t flags;
  std::uint64_t mode;
  std::uint64_t resolve;
};
constexpr std::uint64_t kNoOtherMount = 0x01;  // RESOLVE_NO_XDEV: bind mounts too
constexpr std::uint64_t kNoSymlinks = 0x04;    // RESOLVE_NO_SYMLINKS
constexpr long kOpenat2 = 437;

dev_t device_of(int fd) {
  struct stat info {};
  return ::fstat(fd, &info) == 0 ? info.st_dev : 0;
}

// Opens a subdirectory of `parent`, on the same mount and no symlink.
UniqueFd open_below(int parent, const char* name, int flags) {
  const int all = flags | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
  const OpenHow how{static_cast<std::uint64_t>(all), 0, kNoOtherMount | kNoSymlinks};
  UniqueFd fd(static_cast<int>(::syscall(kOpenat2, parent, name, &how, sizeof how)));
  if (fd.valid() || (errno != ENOSYS && errno != EPERM)) return fd;
  fd.reset(::openat(parent, name, all));
  if (fd.valid() && device_of(fd.get()) != device_of(parent)) fd.reset();
  return fd;
}

// A directory that its owner made unreadable is opened up, by descriptor, so that no link that
// takes its place is touched.
UniqueFd open_for_removal(int parent, const char* name) {
  UniqueFd handle = open_below(parent, name, O_PATH);
  if (!handle.valid()) return handle;
  struct stat info {};
  if (::fstat(handle.get(), &info) == 0 && (info.st_mode & S_IRWXU) != S_IRWXU) {
    ::chmod(("/proc/self/fd/" + std::to_string(handle.get())).c_str(), S_IRWXU);
  }
  return open_below(handle.get(), ".", O_RDONLY);
}

// One pass over a tree.
class Pass {
 public:
  explicit Pass(int top) : top_(top) { remove_entries(top, 0); }
  // What lay too deep is now at the top, for the next pass.
  bool moved_up() const { return moved_ > 0; }

 private:
  void remove_entries(int directory, int depth) {
    UniqueFd own = open_below(directory, ".", O_RDONLY);
    const std::unique_ptr<DIR, int (*)(DIR*)> stream(own.valid() ? ::fdopendir(own.get()) : nullptr,
                                                     [](DIR* d) { return ::closedir(d); });
    if (!stream) return;
    own.release();
    while (const dirent* entry = ::readdir(stream.get())) {
      const char* name = entry->d_name;
      if (std::strcmp(name, ".") != 0 && std::strcmp(name, "..") != 0) {
        remove_entry(directory, depth, name);
      }
    }
  }

  void remove_entry(int directory, int depth, const char* name) {
    if (::unlinkat(directory, name, 0) == 0 || (errno != EISDIR && errno != EPERM)) return;
    if (::unlinkat(directory, name, AT_REMOVEDIR) == 0) return;
    if (depth >= kMaxDepth) {
      const std::string place = "deep-" + std::to_string(now_ns()) + std::to_string(moved_);
      if (::renameat(directory, name, top_, place.c_str()) == 0) ++moved_;
      return;
    }
    const UniqueFd child = open_for_removal(directory, name);
    if (!child.valid()) return;
    remove_entries(child.get(), depth + 1);
    ::unlinkat(directory, name, AT_REMOVEDIR);
  }

  int top_;
  int moved_ = 0;
};

// 0 when `path` is gone, or was replaced by something that is not ours to remove; else an errno.
int remove_if_same(int directory, const std::filesystem::path& path) {
  struct stat here {};
  struct stat there {};
  if (::fstat(directory, &here) != 0) return errno;
  if (::lstat(path.c_str(), &there) != 0) return errno == ENOENT ? 0 : errno;
  if (here.st_dev != there.st_dev || here.st_ino != there.st_ino) return 0;
  return ::rmdir(path.c_str()) == 0 || errno == ENOENT ? 0 : errno;
}

}  // namespace

Result<void> remove_directory(int directory, const std::filesystem::path& path,
                              std::chrono::milliseconds bound) {
  constexpr long kPauseNs = 20'000'000;
  const std::int64_t deadline = now_ns() + Nanoseconds(bound).count();
  ::fchmod(directory, S_IRWXU);
  while (true) {
    for (int i = 0; i < kMaxPasses && Pass(directory).moved_up(); ++i) {
    }
    const int error = remove_if_same(directory, path);
    if (error == 0) return {};
    if (now_ns() >= deadline) return system_error("remove '" + path.string() + "'", error);
    // Nothing tells when the last writer is done, so this is one of the few pauses.
    const timespec pause{0, kPauseNs};
    ::nanosleep(&pause, nullptr);
  }
}

}  // namespace crashworthy
