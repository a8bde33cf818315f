#include "faults/system_calls.h"

#include <sys/syscall.h>

#include <algorithm>

#include "harness/os/json_fields.h"

namespace crashworthy {
namespace {

constexpr FileArgument fd(int argument) { return {argument, -1}; }
constexpr FileArgument path(int argument) { return {-1, argument}; }
constexpr FileArgument at(int directory, int argument) { return {directory, argument}; }

constexpr SystemCall kCalls[] = {
    // Data
    {"read", SYS_read, {{fd(0)}}},
    {"write", SYS_write, {{fd(0)}}},
    {"pread64", SYS_pread64, {{fd(0)}}},
    {"pwrite64", SYS_pwrite64, {{fd(0)}}},
    {"readv", SYS_readv, {{fd(0)}}},
    {"writev", SYS_writev, {{fd(0)}}},
    {"preadv", SYS_preadv, {{fd(0)}}},
    {"pwritev", SYS_pwritev, {{fd(0)}}},
    {"preadv2", SYS_preadv2, {{fd(0)}}},
    {"pwritev2", SYS_pwritev2, {{fd(0)}}},
    {"sendfile", SYS_sendfile, {{fd(0), fd(1)}}},
    {"splice", SYS_splice, {{fd(0), fd(2)}}},
    {"tee", SYS_tee, {{fd(0), fd(1)}}},
    {"vmsplice", SYS_vmsplice, {{fd(0)}}},
    {"copy_file_range", SYS_copy_file_range, {{fd(0), fd(2)}}},
    {"readahead", SYS_readahead, {{fd(0)}}},
    {"fsync", SYS_fsync, {{fd(0)}}},
    {"fdatasync", SYS_fdatasync, {{fd(0)}}},
    {"sync", SYS_sync},
    {"syncfs", SYS_syncfs, {{fd(0)}}},
    {"sync_file_range", SYS_sync_file_range, {{fd(0)}}},
    {"ftruncate", SYS_ftruncate, {{fd(0)}}},
    {"truncate", SYS_truncate, {{path(0)}}},
    {"fallocate", SYS_fallocate, {{fd(0)}}},
    {"lseek", SYS_lseek, {{fd(0)}}},
    {"io_uring_setup", SYS_io_uring_setup},
    {"io_uring_enter", SYS_io_uring_enter, {{fd(0)}}},
    {"io_setup", SYS_io_setup},
    {"io_submit", SYS_io_submit},
    {"io_getevents", SYS_io_getevents},
    // Files and directories
    {"openat", SYS_openat, {{at(0, 1)}}},
    {"openat2", SYS_openat2, {{at(0, 1)}}},
    {"close", SYS_close, {{fd(0)}}},
    {"fstat", SYS_fstat, {{fd(0)}}},
    {"newfstatat", SYS_newfstatat, {{at(0, 1)}}},
    {"statx", SYS_statx, {{at(0, 1)}}},
    {"statfs", SYS_statfs, {{path(0)}}},
    {"fstatfs", SYS_fstatfs, {{fd(0)}}},
    {"faccessat", SYS_faccessat, {{at(0, 1)}}},
    {"faccessat2", SYS_faccessat2, {{at(0, 1)}}},
    {"getdents64", SYS_getdents64, {{fd(0)}}},
    {"getcwd", SYS_getcwd},
    {"chdir", SYS_chdir, {{path(0)}}},
    {"fchdir", SYS_fchdir, {{fd(0)}}},
    {"mkdirat", SYS_mkdirat, {{at(0, 1)}}},
    {"mknodat", SYS_mknodat, {{at(0, 1)}}},
    {"unlinkat", SYS_unlinkat, {{at(0, 1)}}},
    {"renameat2", SYS_renameat2, {{at(0, 1), at(2, 3)}}},
    {"linkat", SYS_linkat, {{at(0, 1), at(2, 3)}}},
    {"symlinkat", SYS_symlinkat, {{at(1, 2)}}},
    {"readlinkat", SYS_readlinkat, {{at(0, 1)}}},
    {"fchmod", SYS_fchmod, {{fd(0)}}},
    {"fchmodat", SYS_fchmodat, {{at(0, 1)}}},
    {"fchown", SYS_fchown, {{fd(0)}}},
    {"fchownat", SYS_fchownat, {{at(0, 1)}}},
    {"utimensat", SYS_utimensat, {{at(0, 1)}}},
    {"flock", SYS_flock, {{fd(0)}}},
    {"fcntl", SYS_fcntl, {{fd(0)}}},
    {"ioctl", SYS_ioctl, {{fd(0)}}},
    {"dup", SYS_dup, {{fd(0)}}},
    {"dup3", SYS_dup3, {{fd(0)}}},
    {"pipe2", SYS_pipe2},
    {"eventfd2", SYS_eventfd2},
    {"memfd_create", SYS_memfd_create},
    {"epoll_create1", SYS_epoll_create1},
    {"epoll_ctl", SYS_epoll_ctl},
    {"epoll_pwait", SYS_epoll_pwait},
    {"ppoll", SYS_ppoll},
    {"pselect6", SYS_pselect6},
    {"inotify_init1", SYS_inotify_init1},
    {"inotify_add_watch", SYS_inotify_add_watch, {{path(1)}}},
    // Sockets
    {"socket", SYS_socket},
    {"socketpair", SYS_socketpair},
    {"bind", SYS_bind, {{fd(0)}}},
    {"listen", SYS_listen, {{fd(0)}}},
    {"accept", SYS_accept, {{fd(0)}}},
    {"accept4", SYS_accept4, {{fd(0)}}},
    {"connect", SYS_connect, {{fd(0)}}},
    {"shutdown", SYS_shutdown, {{fd(0)}}},
    {"sendto", SYS_sendto, {{fd(0)}}},
    {"sendmsg", SYS_sendmsg, {{fd(0)}}},
    {"sendmmsg", SYS_sendmmsg, {{fd(0)}}},
    {"recvfrom", SYS_recvfrom, {{fd(0)}}},
    {"recvmsg", SYS_recvmsg, {{fd(0)}}},
    {"recvmmsg", SYS_recvmmsg, {{fd(0)}}},
    {"getsockopt", SYS_getsockopt, {{fd(0)}}},
    {"setsockopt", SYS_setsockopt, {{fd(0)}}},
    // Memory
    {"mmap", SYS_mmap, {{fd(4)}}},
    {"munmap", SYS_munmap},
    {"mremap", SYS_mremap},
    {"mprotect", SYS_mprotect},
    {"madvise", SYS_madvise},
    {"mlock", SYS_mlock},
    {"msync", SYS_msync},
    {"brk", SYS_brk},
    {"shmget", SYS_shmget},
    {"shmat", SYS_shmat},
    // Processes and time
    {"clone", SYS_clone},
    {"clone3", SYS_clone3},
    {"execve", SYS_execve, {{path(0)}}},
    {"execveat", SYS_execveat, {{at(0, 1)}}},
    {"wait4", SYS_wait4},
    {"waitid", SYS_waitid},
    {"kill", SYS_kill},
    {"prlimit64", SYS_prlimit64},
    {"getrandom", SYS_getrandom},
    {"getppid", SYS_getppid},
    {"sched_setaffinity", SYS_sched_setaffinity},
    {"nanosleep", SYS_nanosleep},
    {"clock_nanosleep", SYS_clock_nanosleep},
    {"futex", SYS_futex},
#if defined(__x86_64__)  // What newer architectures left out.
    {"open", SYS_open, {{path(0)}}},
    {"creat", SYS_creat, {{path(0)}}},
    {"stat", SYS_stat, {{path(0)}}},
    {"lstat", SYS_lstat, {{path(0)}}},
    {"access", SYS_access, {{path(0)}}},
    {"getdents", SYS_getdents, {{fd(0)}}},
    {"mkdir", SYS_mkdir, {{path(0)}}},
    {"rmdir", SYS_rmdir, {{path(0)}}},
    {"mknod", SYS_mknod, {{path(0)}}},
    {"unlink", SYS_unlink, {{path(0)}}},
    {"rename", SYS_rename, {{path(0), path(1)}}},
    {"renameat", SYS_renameat, {{at(0, 1), at(2, 3)}}},
    {"link", SYS_link, {{path(0), path(1)}}},
    {"symlink", SYS_symlink, {{path(1)}}},
    {"readlink", SYS_readlink, {{path(0)}}},
    {"chmod", SYS_chmod, {{path(0)}}},
    {"chown", SYS_chown, {{path(0)}}},
    {"lchown", SYS_lchown, {{path(0)}}},
    {"utime", SYS_utime, {{path(0)}}},
    {"utimes", SYS_utimes, {{path(0)}}},
    {"dup2", SYS_dup2, {{fd(0)}}},
    {"pipe", SYS_pipe},
    {"eventfd", SYS_eventfd},
    {"epoll_wait", SYS_epoll_wait},
    {"poll", SYS_poll},
    {"select", SYS_select},
    {"fork", SYS_fork},
    {"vfork", SYS_vfork},
#endif
};

}  // namespace

std::span<const SystemCall> system_calls() { return kCalls; }

Result<std::vector<const SystemCall*>> parse_calls(std::string_view names) {
  std::vector<const SystemCall*> calls;
  for (std::size_t start = 0; start <= names.size();) {
    const std::size_t end = std::min(names.find(',', start), names.size());
    const std::string name(names.substr(start, end - start));
    const auto* found = std::find_if(std::begin(kCalls), std::end(kCalls),
                                     [&](const SystemCall& call) { return name == call.name; });
    if (found == std::end(kCalls)) {
      std::vector<std::string> known;
      for (const SystemCall& call : kCalls) known.emplace_back(call.name);
      return usage_error("'" + name + "' is no system call that can be chosen",
                         suggest(name, known));
    }
    if (std::find(calls.begin(), calls.end(), found) != calls.end())
      return usage_error("'" + name + "' is there twice");
    calls.push_back(found);
    start = end + 1;
  }
  return calls;
}

}  // namespace crashworthy
