// How a process ended: exited with a code, or killed by a signal, with or without a core dump.
#pragma once

#include <csignal>
#include <string>

namespace crashworthy {

class WaitStatus {
 public:
  WaitStatus() = default;
  // From the status word of waitpid(2).
  static WaitStatus from_raw(int raw) { return WaitStatus(raw); }
  // From si_code and si_status of waitid(2).
  static WaitStatus from_siginfo(const siginfo_t& info);

  bool exited() const;
  bool signalled() const;
  int exit_code() const;  // Only when exited().
  int signal() const;     // Only when signalled().
  bool dumped_core() const;
  // Killed by a signal that a process brings about by its own doing: a crash, or a limit of its
  // own. SIGKILL, SIGTERM and the like may come from anybody.
  bool crashed() const;
  bool success() const { return exited() && exit_code() == 0; }
  int raw() const { return raw_; }

  // "exited with 3", "killed by SIGABRT", "killed by SIGSEGV (core dumped)".
  std::string describe() const;

 private:
  explicit WaitStatus(int raw) : raw_(raw) {}
  int raw_ = 0;
};

// "SIGKILL" for 9; "signal 99" for a number without a name.
std::string signal_name(int signal);

}  // namespace crashworthy
