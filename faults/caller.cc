#include "faults/caller.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>

#include "harness/os/proc.h"

namespace crashworthy {
namespace {

std::string place_of(pid_t tid, const std::string& what) {
  return "/proc/" + std::to_string(tid) + "/" + what;
}

// Empty when it leads nowhere.
Result<std::string> read_link(const std::string& path) {
  char target[PATH_MAX];
  const ssize_t size = ::readlink(path.c_str(), target, sizeof target);
  if (size >= 0) return std::string(target, static_cast<std::size_t>(size));
  if (errno == ENOENT || errno == ESRCH) return std::string();
  return system_error("read " + path, errno);
}

// Page by page, for what follows the text may be no memory. Empty when the text is none either.
Result<std::string> read_text(pid_t tid, std::uint64_t address) {
  const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  std::string text;
  while (text.size() < PATH_MAX) {
    char part[256];
    const std::uint64_t from = address + text.size();
    const std::uint64_t size = std::min<std::uint64_t>(sizeof part, page - from % page);
    const ssize_t count = read_memory(tid, part, size, {{reinterpret_cast<void*>(from), size}});
    if (count < 0 && errno != EFAULT && errno != ESRCH)
      return system_error("read the caller's memory", errno);
    if (count <= 0) return std::string();
    const auto length = static_cast<std::size_t>(count);
    const void* end = std::memchr(part, '\0', length);
    if (end != nullptr) {
      return text.append(part, static_cast<std::size_t>(static_cast<const char*>(end) - part));
    }
    text.append(part, length);
  }
  return std::string();
}

Result<void> add_file(const ReportedCall& call, const FileArgument& argument,
                      std::vector<std::string>& files) {
  std::string written;
  if (argument.path >= 0) {
    auto text = read_text(call.tid, call.arguments[static_cast<std::size_t>(argument.path)]);
    if (!text) return text.error();
    written = *std::move(text);
    if (written.starts_with('/')) {
      files.push_back(written);
      return {};
    }
  }
  const int descriptor =
      argument.descriptor < 0
          ? AT_FDCWD
          : static_cast<int>(call.arguments[static_cast<std::size_t>(argument.descriptor)]);
  const std::string base = descriptor == AT_FDCWD ? "cwd" : "fd/" + std::to_string(descriptor);
  auto start = read_link(place_of(call.tid, base));
  if (!start) return start.error();
  if (start->empty()) return {};
  files.push_back(written.empty() ? *start : *start + "/" + written);
  if (!written.empty()) files.push_back(written);
  return {};
}

}  // namespace

Result<UniqueFd> open_thread(pid_t tid) {
  constexpr unsigned kThread = O_EXCL;  // PIDFD_THREAD
  UniqueFd fd(static_cast<int>(::syscall(SYS_pidfd_open, tid, kThread)));
  if (!fd.valid() && errno == EINVAL) {
    fd.reset(static_cast<int>(::syscall(SYS_pidfd_open, process_of(tid), 0)));
  }
  if (!fd.valid()) return system_error("open thread " + std::to_string(tid), errno);
  return fd;
}

pid_t process_of(pid_t tid) { return std::atoi(status_field(tid, "Tgid").c_str()); }

ssize_t read_memory(pid_t tid, void* ours, std::size_t size, const std::vector<iovec>& theirs) {
  const iovec local{ours, size};
  return ::process_vm_readv(tid, &local, 1, theirs.data(), theirs.size(), 0);
}

ssize_t write_memory(pid_t tid, void* ours, std::size_t size, const std::vector<iovec>& theirs) {
  const iovec local{ours, size};
  return ::process_vm_writev(tid, &local, 1, theirs.data(), theirs.size(), 0);
}

Result<std::vector<std::string>> files_of(const ReportedCall& call, const SystemCall& kind) {
  std::vector<std::string> files;
  for (const FileArgument& argument : kind.files) {
    if (argument.descriptor < 0 && argument.path < 0) break;
    if (auto added = add_file(call, argument, files); !added) return added.error();
  }
  return files;
}

}  // namespace crashworthy
