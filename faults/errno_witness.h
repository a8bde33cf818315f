// Sees how a system call of a running process fails: the proof that a limit was felt, whatever the
// program makes of it.
#pragma once

#include <sys/types.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "harness/os/result.h"
#include "harness/os/unique_fd.h"

namespace crashworthy {

// Traces a process from a thread of its own, until the first call that fails as it was told, until
// stop(), or until the process ends. Then nothing is traced any more; nor is it when the harness
// dies. Each call of the process takes some microseconds longer meanwhile. One that waits in a call
// when tracing begins or ends is interrupted as by a SIGSTOP and SIGCONT: few calls tell (see
// "EINTR" of epoll_wait(2) and its kin in signal(7)).
//
// All members may be called from any thread, one at a time.
class ErrnoWitness {
 public:
  struct Failure {
    std::int64_t time_ns = 0;
    pid_t pid = 0;  // Ours.
    pid_t thread = 0;
    int call = -1;  // -1: it was going on when tracing began.
    int error = 0;
  };
  using Arguments = std::array<std::uint64_t, 6>;
  struct Watch {
    std::vector<int> errors;       // Any of these errno values,
    std::vector<int> calls{};      // of any of these system calls; empty: of whichever.
    bool follow_children = false;  // Also in the processes that it starts from now on.
    // Only what this accepts; empty: anything. Called by the tracing thread while the call has
    // failed and its thread is held.
    std::function<bool(const Failure&, const Arguments&)> accepts{};
  };

  // Returns when all threads of `pid` are traced. kGone when it has ended; an error of the kernel
  // (EPERM) where tracing is refused or somebody else traces it: nothing is traced then.
  static Result<std::unique_ptr<ErrnoWitness>> attach(pid_t pid, Watch watch);
  ~ErrnoWitness();

  std::optional<Failure> seen() const;
  // Readable once seen() has something.
  int descriptor() const { return event_.get(); }
  void stop();

 private:
  explicit ErrnoWitness(Watch watch) : watch_(std::move(watch)) {}

  // Of the tracing thread.
  void run(pid_t pid, std::promise<Result<void>> attached);
  Result<void> seize_all(pid_t pid);
  bool wait_for_one();  // False: there is nobody left to wait for.
  void on_stop(pid_t thread, int status);
  void on_call_stop(pid_t thread);
  void resume(pid_t thread, int signal);
  bool wanted(int call, int error) const;
  void detach_all();

  const Watch watch_;
  UniqueFd event_;
  std::thread thread_;
  std::atomic<bool> stopping_{false};
  std::atomic<bool> over_{false};
  mutable std::mutex mutex_;
  std::optional<Failure> failure_;

  // Of the tracing thread alone.
  struct Call {
    int number = -1;
    Arguments arguments{};
  };
  std::map<pid_t, Call> traced_;  // By thread, with the call that it is in.
  bool detaching_ = false;
};

}  // namespace crashworthy
