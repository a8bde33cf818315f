#include "faults/guardian.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <string>

#include "harness/os/pidfd.h"

namespace crashworthy {
namespace {

constexpr int kDismissMs = 1'000;

// Async-signal-safe: it is the child of a program with threads.
[[noreturn]] void guard(int lifeline, const char* path, const struct stat& made,
                        Guardian::Removal remove) {
  ::setsid();
  sigset_t all;
  ::sigfillset(&all);
  ::sigprocmask(SIG_SETMASK, &all, nullptr);
  // Above all no other end of anybody's lifeline.
  ::dup2(lifeline, 0);
  ::syscall(SYS_close_range, 1u, ~0u, 0u);
  char byte = 0;
  while (::read(0, &byte, 1) < 0 && errno == EINTR) {
  }
  remove(path, made);
  ::_exit(0);
}

}  // namespace

Result<Guardian> Guardian::start(const std::filesystem::path& path, Removal remove) {
  const std::string text = path.string();
  struct stat made {};
  int ends[2] = {-1, -1};
  if (::lstat(text.c_str(), &made) != 0 || ::pipe2(ends, O_CLOEXEC) != 0)
    return system_error("guard '" + text + "'", errno);
  const UniqueFd reading(ends[0]);
  Guardian guardian;
  guardian.lifeline_.reset(ends[1]);
  const pid_t pid = ::fork();
  if (pid == 0) guard(reading.get(), text.c_str(), made, remove);
  if (pid < 0) return system_error("start the guard of '" + text + "'", errno);
  auto process = open_pidfd(pid);
  if (!process) return process.error();
  guardian.process_ = *std::move(process);
  return guardian;
}

void Guardian::dismiss() {
  lifeline_.reset();
  if (process_.valid() && wait_for_end(process_.get(), kDismissMs)) (void)reap(process_.get());
  process_.reset();
}

}  // namespace crashworthy
