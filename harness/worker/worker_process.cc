#include "harness/worker/worker_process.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <ctime>
#include <new>
#include <string>
#include <utility>

#include "harness/worker/worker_main.h"

namespace crashworthy {
namespace {

// A joined thread is still counted for some microseconds while the kernel takes it down.
constexpr int kThreadTries = 20;
constexpr timespec kThreadPause{0, 500'000};

// TSan starts a thread of its own with the first of the user's, or in a forked child; it takes care
// of that one at a fork.
#if defined(__SANITIZE_THREAD__)
#define CRASHWORTHY_UNDER_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define CRASHWORTHY_UNDER_TSAN 1
#endif
#endif
#ifdef CRASHWORTHY_UNDER_TSAN
constexpr long kThreadsAllowed = 2;
#else
constexpr long kThreadsAllowed = 1;
#endif

// The number of threads of this process, or -1: the link count of its task directory tells, so
// nothing is listed.
long thread_count() {
  struct stat info {};
  if (::stat("/proc/self/task", &info) != 0) return -1;
  return static_cast<long>(info.st_nlink) - 2;
}

// Blocks every signal while it lives, so that no handler of the parent runs in a fresh child.
class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t all;
    ::sigfillset(&all);
    ::sigprocmask(SIG_SETMASK, &all, &before_);
  }
  ~SignalsBlocked() { ::sigprocmask(SIG_SETMASK, &before_, nullptr); }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;

 private:
  sigset_t before_{};
};

}  // namespace

Result<void> require_single_thread() {
  long threads = thread_count();
  for (int i = 0; threads > kThreadsAllowed && i < kThreadTries; ++i) {
    ::nanosleep(&kThreadPause, nullptr);
    threads = thread_count();
  }
  if (threads < 0) return system_error("count the threads of this process in /proc", errno);
  if (threads <= kThreadsAllowed) return {};
  return usage_error("unable to fork workers: this process has " + std::to_string(threads) +
                         " threads, and a forked copy would have only one of them",
                     "make the worker pool before anything starts a thread (for OpenCV: "
                     "cv::setNumThreads(1) first)");
}

WorkerProcess::WorkerProcess(UniqueFd socket, SharedMemory memory)
    : socket_(std::move(socket)),
      memory_(std::move(memory)),
      lease_(new (memory_.data()) Lease()) {}

WorkerProcess::WorkerProcess(WorkerProcess&& other) noexcept { *this = std::move(other); }

WorkerProcess& WorkerProcess::operator=(WorkerProcess&& other) noexcept {
  // By swapping: what was owned here ends with `other`.
  std::swap(socket_, other.socket_);
  std::swap(pidfd_, other.pidfd_);
  std::swap(lease_, other.lease_);
  std::swap(pid_, other.pid_);
  std::swap(memory_, other.memory_);
  return *this;
}

Result<WorkerProcess> WorkerProcess::start(const Body& body) {
  if (auto alone = require_single_thread(); !alone) return alone.error();
  auto memory = SharedMemory::create("crashworthy-lease", sizeof(Lease));
  if (!memory) return memory.error();
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0) {
    return system_error("create the socket pair of a worker", errno);
  }
  WorkerProcess worker(UniqueFd{ends[0]}, std::move(*memory));
  UniqueFd child_end(ends[1]);
  std::fflush(nullptr);  // Else the child would print our buffered text once more.
  const pid_t coordinator = ::getpid();
  const SignalsBlocked blocked;
  const pid_t pid = ::fork();
  if (pid < 0) return system_error("fork a worker", errno);
  if (pid == 0) {
    settle_in(coordinator);
    worker.socket_.reset();
    body(child_end.get(), *worker.lease_);
    ::_exit(0);
  }
  worker.pid_ = pid;
  auto pidfd = open_pidfd(pid);
  if (!pidfd) return pidfd.error();
  worker.pidfd_ = std::move(*pidfd);
  return worker;
}

void WorkerProcess::kill() {
  if (pid_ == 0) return;
  if (pidfd_.valid()) {
    // Gone already is as good.
    [[maybe_unused]] const auto sent = send_signal(pidfd_.get(), SIGKILL);
  } else {
    ::kill(pid_, SIGKILL);  // Our child, not yet reaped: the pid is still its own.
  }
}

Result<WaitStatus> WorkerProcess::reap() {
  auto status = crashworthy::reap(pidfd_.get());
  if (status && !status->has_value()) {
    return Error{ErrorKind::kTimeout, 0, "reap a worker: it still runs", {}};
  }
  const pid_t ended = std::exchange(pid_, 0);
  if (status) return **status;
  // Somebody waits for all children, or SIGCHLD is ignored: newer kernels still tell.
  if (const auto told = exit_status_from_kernel(pidfd_.get())) return *told;
  return status.error().with_context("learn how worker process " + std::to_string(ended) +
                                     " ended");
}

void WorkerProcess::forget() {
  pid_ = 0;
  socket_.reset();
  pidfd_.reset();
  lease_ = nullptr;
  memory_ = SharedMemory();
}

WorkerProcess::~WorkerProcess() {
  if (pid_ == 0) return;
  kill();
  int result = 0;
  do {
    result = ::waitpid(pid_, nullptr, 0);
  } while (result < 0 && errno == EINTR);
}

}  // namespace crashworthy
