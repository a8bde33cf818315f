#include "harness/experiment/observer.h"

#include <sys/inotify.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "harness/os/clock.h"

namespace crashworthy {

namespace fs = std::filesystem;

Result<OutputObserver> OutputObserver::create(const fs::path& root) {
  OutputObserver observer;
  observer.root_ = root;
  observer.inotify_.reset(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  if (!observer.inotify_.valid()) return system_error("watch '" + root.string() + "'", errno);
  observer.watch(root, "", nullptr);
  if (observer.prefixes_.empty()) return system_error("watch '" + root.string() + "'", errno);
  return observer;
}

// A directory made while we look may already hold files: those are found by listing it once the
// watch stands.
void OutputObserver::watch(const fs::path& directory, const std::string& prefix,
                           std::vector<Publication>* found) {
  const int descriptor =
      ::inotify_add_watch(inotify_.get(), directory.c_str(),
                          IN_CLOSE_WRITE | IN_MOVED_TO | IN_CREATE | IN_ONLYDIR | IN_DONT_FOLLOW);
  if (descriptor < 0) return;
  prefixes_[descriptor] = prefix;
  std::error_code failure;
  for (const auto& entry : fs::directory_iterator(directory, failure)) {
    const std::string name = prefix + entry.path().filename().string();
    if (entry.is_symlink(failure)) continue;
    if (entry.is_directory(failure)) {
      watch(entry.path(), name + "/", found);
    } else if (found != nullptr) {
      found->push_back({name, now_ns()});
    }
  }
}

void OutputObserver::read(std::vector<Publication>& out) {
  alignas(inotify_event) std::array<char, 1 << 16> buffer;
  while (true) {
    const ssize_t length = ::read(inotify_.get(), buffer.data(), buffer.size());
    if (length <= 0) return;
    const std::int64_t time_ns = now_ns();
    for (ssize_t at = 0; at < length;) {
      inotify_event event{};
      std::memcpy(&event, buffer.data() + at, sizeof event);
      const char* name = buffer.data() + at + sizeof event;
      at += static_cast<ssize_t>(sizeof event + event.len);
      if ((event.mask & IN_Q_OVERFLOW) != 0) overflowed_ = true;
      const auto prefix = prefixes_.find(event.wd);
      if (prefix == prefixes_.end() || event.len == 0) continue;
      const std::string path = prefix->second + name;
      if ((event.mask & IN_ISDIR) != 0) {
        watch(root_ / path, path + "/", &out);
      } else if ((event.mask & (IN_CLOSE_WRITE | IN_MOVED_TO)) != 0) {
        out.push_back({path, time_ns});
      }
    }
  }
}

}  // namespace crashworthy
