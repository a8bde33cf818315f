// The reaper's birth: a new pid namespace (or none), its user ids, its /proc.
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>

#include "harness/os/file.h"
#include "harness/process/init.h"

namespace crashworthy {

namespace {

int write_once(const char* path, const std::string& text) {
  UniqueFd fd(::open(path, O_WRONLY | O_CLOEXEC));
  if (!fd.valid()) return errno;
  auto written = write_all(fd.get(), text);
  return written ? 0 : written.error().sys_errno;
}

// fork(2) into new namespaces. The plain system call, because glibc has no wrapper without a stack,
// and because clone(2), unlike unshare(2), leaves the outer process as it is when it is refused.
pid_t fork_into(unsigned long flags) {
  return static_cast<pid_t>(::syscall(SYS_clone, flags | SIGCHLD, nullptr, nullptr, nullptr, 0));
}

[[noreturn]] void be_reaper(const ReaperStart& start, uid_t uid, gid_t gid) {
  ReaperStart own = start;
  SetupResult result;
  if (own.containment == Containment::kPidNamespace) {
    result.error = enter_namespaces(uid, gid, uid != 0, &own.reason);
    // Tied to the outer process, which has one thread. Set after the ids, a change of which clears
    // it; then the outer one may have ended already.
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (any_ended({own.outer})) ::_exit(0);
  } else {
    ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  }
  (void)!::write(own.setup, &result, sizeof result);
  ::close(own.setup);
  if (result.error != 0) ::_exit(0);
  run_reaper(own);
}

}  // namespace

int enter_namespaces(uid_t uid, gid_t gid, bool user_namespace, std::string* note) {
  if (user_namespace) {
    // Each id is mapped to itself, so files and reports show the ids that everybody knows.
    const std::string u = std::to_string(uid) + " " + std::to_string(uid) + " 1";
    const std::string g = std::to_string(gid) + " " + std::to_string(gid) + " 1";
    if (const int error = write_once("/proc/self/setgroups", "deny"); error != 0) return error;
    if (const int error = write_once("/proc/self/uid_map", u); error != 0) return error;
    if (const int error = write_once("/proc/self/gid_map", g); error != 0) return error;
  }
  if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return errno;
  if (::mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr) != 0) {
    *note += std::string(note->empty() ? "" : "; ") + "no fresh /proc: " + std::strerror(errno);
  }
  return 0;
}

Result<pid_t> start_reaper(const ReaperStart& start) {
  const uid_t uid = ::geteuid();
  const gid_t gid = ::getegid();
  unsigned long flags = 0;
  if (start.containment == Containment::kPidNamespace) {
    flags = CLONE_NEWPID | CLONE_NEWNS | (uid == 0 ? 0 : CLONE_NEWUSER);
  }
  const pid_t pid = flags == 0 ? ::fork() : fork_into(flags);
  if (pid == 0) be_reaper(start, uid, gid);
  if (pid < 0) return system_error("fork", errno);
  return pid;
}

}  // namespace crashworthy
