// WorkerProcess: the coordinator's hold on one forked worker, active or spare.
#pragma once

#include <sys/types.h>

#include <functional>

#include "harness/os/pidfd.h"
#include "harness/os/result.h"
#include "harness/os/shared_memory.h"
#include "harness/os/unique_fd.h"
#include "harness/worker/lease.h"

namespace crashworthy {

// Fails unless the calling process has exactly one thread now: a forked copy of a process with more
// may hold locks whose owner it does not have.
Result<void> require_single_thread();

// Owns the process, its pidfd, its socket and the memory of its lease. The destructor kills and
// reaps it. One thread uses a WorkerProcess.
class WorkerProcess {
 public:
  // What the child does; it must not return.
  using Body = std::function<void(int socket, Lease& lease)>;

  // Forks. The child has default signals, dies with the caller, and holds of this pool's
  // descriptors at least its own socket; `body` must close the others.
  static Result<WorkerProcess> start(const Body& body);

  WorkerProcess(WorkerProcess&& other) noexcept;
  WorkerProcess& operator=(WorkerProcess&& other) noexcept;
  ~WorkerProcess();

  pid_t pid() const { return pid_; }
  int pidfd() const { return pidfd_.get(); }
  int socket() const { return socket_.get(); }  // Borrowed; -1 after close_socket().
  LeaseView lease() const { return lease_->read(); }

  // Sends SIGKILL; does nothing to what has ended.
  void kill();
  // Reaps it, once its pidfd is readable. Fails when somebody else took the status; nothing is left
  // to reap then either.
  Result<WaitStatus> reap();
  // The worker ends by itself when it has executed what is queued.
  void close_socket() { socket_.reset(); }
  // Lets go of a sibling in a forked child: closes and unmaps, kills nothing.
  void forget();

 private:
  WorkerProcess(UniqueFd socket, SharedMemory memory);

  UniqueFd socket_;
  UniqueFd pidfd_;
  SharedMemory memory_;
  Lease* lease_ = nullptr;  // In `memory_`.
  pid_t pid_ = 0;           // 0: nothing to reap.
};

}  // namespace crashworthy
