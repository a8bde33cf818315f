#include "harness/os/wait_status.h"

#include <sys/wait.h>

#include <cstring>

namespace crashworthy {

WaitStatus WaitStatus::from_siginfo(const siginfo_t& info) {
  constexpr int kCoreFlag = 0x80;
  if (info.si_code == CLD_EXITED) return WaitStatus((info.si_status & 0xff) << 8);
  return WaitStatus((info.si_status & 0x7f) | (info.si_code == CLD_DUMPED ? kCoreFlag : 0));
}

bool WaitStatus::exited() const { return WIFEXITED(raw_); }
bool WaitStatus::signalled() const { return WIFSIGNALED(raw_); }
int WaitStatus::exit_code() const { return WEXITSTATUS(raw_); }
int WaitStatus::signal() const { return WTERMSIG(raw_); }
bool WaitStatus::dumped_core() const { return signalled() && WCOREDUMP(raw_); }

bool WaitStatus::crashed() const {
  if (!signalled()) return false;
  switch (signal()) {
    case SIGSEGV:
    case SIGABRT:
    case SIGBUS:
    case SIGFPE:
    case SIGILL:
    case SIGTRAP:
    case SIGSYS:
    case SIGXCPU:
    case SIGXFSZ:
      return true;
    default:
      return false;
  }
}

std::string WaitStatus::describe() const {
  if (exited()) return "exited with " + std::to_string(exit_code());
  return "killed by " + signal_name(signal()) + (dumped_core() ? " (core dumped)" : "");
}

std::string signal_name(int signal) {
  const char* name = ::sigabbrev_np(signal);
  return name == nullptr ? "signal " + std::to_string(signal) : std::string("SIG") + name;
}

}  // namespace crashworthy
