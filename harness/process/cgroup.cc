#include "harness/process/cgroup.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <sstream>
#include <string_view>
#include <vector>

#include "harness/os/clock.h"
#include "harness/os/file.h"

namespace crashworthy {
namespace fs = std::filesystem;

namespace {

struct Mount {
  std::string root;
  std::string point;
};

// Lines of mountinfo read: ID PARENT DEVICE ROOT POINT OPTIONS [TAG...] - TYPE SOURCE OPTIONS.
Result<Mount> find_cgroup2_mount() {
  const auto text = read_file("/proc/self/mountinfo");
  if (!text) return text.error();
  std::istringstream lines(*text);
  for (std::string line; std::getline(lines, line);) {
    if (line.find(" - cgroup2 ") == std::string::npos) continue;
    std::istringstream words(line);
    std::string skipped;
    Mount mount;
    words >> skipped >> skipped >> skipped >> mount.root >> mount.point;
    return mount;
  }
  return Error{ErrorKind::kMissing, 0, "no cgroup2 hierarchy is mounted", {}};
}

// The path after "0::" of /proc/self/cgroup.
Result<std::string> cgroup2_path() {
  const auto text = read_file("/proc/self/cgroup");
  if (!text) return text.error();
  std::istringstream lines(*text);
  for (std::string line; std::getline(lines, line);) {
    if (line.rfind("0::", 0) == 0) return line.substr(3);
  }
  return Error{ErrorKind::kMissing, 0, "this process is in no cgroup2 hierarchy", {}};
}

bool holds_line(int cgroup, const char* file, std::string_view line) {
  UniqueFd fd(::openat(cgroup, file, O_RDONLY | O_CLOEXEC));
  std::array<char, 256> text{};
  const ssize_t count = ::pread(fd.get(), text.data(), text.size(), 0);
  return count > 0 && std::string_view(text.data(), static_cast<std::size_t>(count)).find(line) !=
                          std::string_view::npos;
}

}  // namespace

Result<fs::path> own_cgroup() {
  auto mount = find_cgroup2_mount();
  if (!mount) return mount.error();
  auto path = cgroup2_path();
  if (!path) return path.error();
  const std::string root = mount->root == "/" ? "" : mount->root;
  if (path->rfind(root, 0) != 0 || path->find("..") != std::string::npos) {
    return Error{
        ErrorKind::kMissing, 0, "our cgroup '" + *path + "' is outside the mounted ones", {}};
  }
  return fs::path(mount->point + path->substr(root.size()));
}

Result<UniqueFd> create_cgroup(const std::string& name) {
  auto parent = own_cgroup();
  if (!parent) return parent.error();
  const fs::path path = *parent / name;
  if (::mkdir(path.c_str(), 0755) != 0) {
    return system_error("create cgroup '" + path.string() + "'", errno);
  }
  UniqueFd cgroup(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!cgroup.valid() || ::faccessat(cgroup.get(), "cgroup.kill", W_OK, AT_EACCESS) != 0) {
    Error error = system_error("use cgroup.kill of '" + path.string() + "'", errno);
    ::rmdir(path.c_str());
    return error;
  }
  return cgroup;
}

Result<UniqueFd> open_cgroup_processes(int cgroup) {
  UniqueFd fd(::openat(cgroup, "cgroup.procs", O_WRONLY | O_CLOEXEC));
  if (!fd.valid()) return system_error("open cgroup.procs", errno);
  return fd;
}

void kill_cgroup(int cgroup) {
  UniqueFd fd(::openat(cgroup, "cgroup.kill", O_WRONLY | O_CLOEXEC));
  if (fd.valid()) (void)write_all(fd.get(), "1");
}

bool wait_until_empty(int cgroup, std::chrono::milliseconds bound) {
  const std::int64_t deadline = now_ns() + Nanoseconds(bound).count();
  UniqueFd events(::openat(cgroup, "cgroup.events", O_RDONLY | O_CLOEXEC));
  if (!events.valid()) return true;  // Removed already.
  while (!holds_line(cgroup, "cgroup.events", "populated 0")) {
    const std::int64_t left = deadline - now_ns();
    if (left <= 0) return false;
    // The kernel notifies on the open file; the short bound covers a change before this poll.
    pollfd poll_fd{events.get(), POLLPRI, 0};
    ::poll(&poll_fd, 1, static_cast<int>(std::min<std::int64_t>(left / 1'000'000 + 1, 20)));
  }
  return true;
}

bool remove_cgroup(int cgroup) {
  std::error_code failure;
  const fs::path path = fs::read_symlink("/proc/self/fd/" + std::to_string(cgroup), failure);
  if (failure || !fs::exists(path, failure)) return true;
  std::vector<fs::path> directories{path};
  const auto options = fs::directory_options::skip_permission_denied;
  for (fs::recursive_directory_iterator at(path, options, failure), end; !failure && at != end;
       at.increment(failure)) {
    std::error_code unreadable;
    if (at->is_directory(unreadable)) directories.push_back(at->path());
  }
  // Children come after their parents in this list.
  std::for_each(directories.rbegin(), directories.rend(),
                [](const fs::path& directory) { ::rmdir(directory.c_str()); });
  return ::access(path.c_str(), F_OK) != 0;
}

}  // namespace crashworthy
