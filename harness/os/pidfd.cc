#include "harness/os/pidfd.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "harness/os/clock.h"
#include "harness/os/file.h"
#include "harness/os/proc.h"

namespace crashworthy {
namespace {

// struct pidfd_info of <linux/pidfd.h> (6.15), which Debian 12's headers do not have.
struct PidfdInfo {
  std::uint64_t mask;
  std::uint64_t cgroup_id;
  std::uint32_t pid, tgid, ppid, ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid;
  std::int32_t exit_code;
};
static_assert(sizeof(PidfdInfo) == 64);
constexpr std::uint64_t kPidfdInfoExit = 1u << 3;
constexpr unsigned long kPidfdGetInfo = _IOWR(0xFF, 11, PidfdInfo);

}  // namespace

Result<UniqueFd> open_pidfd(pid_t pid) {
  const int fd = static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
  if (fd >= 0) return UniqueFd(fd);
  Error error = system_error("open a pidfd of process " + std::to_string(pid), errno);
  if (error.sys_errno == ESRCH) error.kind = ErrorKind::kGone;
  return error;
}

Result<pid_t> pid_of(int pidfd) {
  auto info = read_file("/proc/self/fdinfo/" + std::to_string(pidfd));
  if (!info) return info.error();
  const std::size_t at = info->find("\nPid:");
  const pid_t pid = at == std::string::npos ? -1 : std::atoi(info->c_str() + at + 5);
  if (pid <= 0) return Error{ErrorKind::kGone, ESRCH, "the process has ended", {}};
  return pid;
}

std::optional<pid_t> pid_in_own_namespace(pid_t pid) {
  const std::string pids = status_field(pid, "NSpid");
  if (!pids.empty()) return std::atoi(pids.c_str() + pids.find_last_of(" \t") + 1);
  if (!read_stat(pid)) return std::nullopt;
  return pid;  // A kernel without pid namespaces.
}

std::optional<std::uint64_t> start_time_of(pid_t pid) {
  const auto stat = read_stat(pid);
  if (!stat || stat->state == 'Z' || stat->state == 'X') return std::nullopt;
  return stat->start_time;
}

Result<void> send_signal(int pidfd, int signal) {
  if (::syscall(SYS_pidfd_send_signal, pidfd, signal, nullptr, 0) == 0) return {};
  Error error = system_error("send " + signal_name(signal), errno);
  if (error.sys_errno == ESRCH) error.kind = ErrorKind::kGone;
  return error;
}

bool has_ended(int pidfd) { return wait_for_end(pidfd, 0); }

bool wait_for_end(int pidfd, int timeout_ms) {
  pollfd poll_fd{pidfd, POLLIN, 0};
  int ready = 0;
  do {
    ready = ::poll(&poll_fd, 1, timeout_ms);
  } while (ready < 0 && errno == EINTR);
  return ready > 0;
}

Result<std::optional<WaitStatus>> reap(int pidfd) {
  siginfo_t info{};
  int result = 0;
  do {
    result = ::waitid(static_cast<idtype_t>(P_PIDFD), static_cast<id_t>(pidfd), &info,
                      WEXITED | WNOHANG);
  } while (result < 0 && errno == EINTR);
  if (result < 0) return system_error("wait for a child", errno);
  if (info.si_pid == 0) return std::optional<WaitStatus>();
  return std::optional<WaitStatus>(WaitStatus::from_siginfo(info));
}

std::optional<WaitStatus> exit_status_from_kernel(int pidfd) {
  PidfdInfo info{};
  info.mask = kPidfdInfoExit;
  if (::ioctl(pidfd, kPidfdGetInfo, &info) != 0 || (info.mask & kPidfdInfoExit) == 0)
    return std::nullopt;
  return WaitStatus::from_raw(info.exit_code);
}

bool wait_until_stopped(pid_t pid, int timeout_ms) {
  const std::int64_t deadline = now_ns() + std::int64_t{timeout_ms} * 1'000'000;
  while (!is_stopped_by_signal(pid)) {
    if (now_ns() > deadline) return false;
    ::sched_yield();  // The kernel has no event for "stopped" to anyone but the parent.
  }
  return true;
}

}  // namespace crashworthy
