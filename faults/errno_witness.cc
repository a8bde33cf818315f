#include "faults/errno_witness.h"

#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "harness/os/clock.h"
#include "harness/os/proc.h"

namespace crashworthy {
namespace {

constexpr int kMaxSeizePasses = 100;  // Threads start threads while they are being found.
constexpr std::int64_t kDetachBoundNs = 1'000'000'000;
constexpr std::chrono::milliseconds kWakeEvery(1);
// What waits here are our tracees alone, never children of other threads of the harness.
constexpr int kOurs = __WALL | __WNOTHREAD;

// Interrupts the wait of the tracing thread, which nothing else can do. Nobody else has a use for
// it.
int wake_signal() {
  static const int signal = [] {
    struct sigaction action {};
    action.sa_handler = [](int) {};
    ::sigaction(SIGRTMAX - 3, &action, nullptr);
    return SIGRTMAX - 3;
  }();
  return signal;
}

long number_in(pid_t pid, const char* name) { return std::atol(status_field(pid, name).c_str()); }

bool contains(const std::vector<int>& numbers, int number) {
  return std::find(numbers.begin(), numbers.end(), number) != numbers.end();
}

}  // namespace

Result<std::unique_ptr<ErrnoWitness>> ErrnoWitness::attach(pid_t pid, Watch watch) {
  std::unique_ptr<ErrnoWitness> witness(new ErrnoWitness(std::move(watch)));
  witness->event_.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!witness->event_.valid()) return system_error("create an event descriptor", errno);
  wake_signal();
  std::promise<Result<void>> promise;
  auto attached = promise.get_future();
  witness->thread_ = std::thread(&ErrnoWitness::run, witness.get(), pid, std::move(promise));
  if (auto done = attached.get(); !done) return done.error();
  return witness;
}

ErrnoWitness::~ErrnoWitness() { stop(); }

std::optional<ErrnoWitness::Failure> ErrnoWitness::seen() const {
  const std::lock_guard lock(mutex_);
  return failure_;
}

void ErrnoWitness::stop() {
  if (!thread_.joinable()) return;
  stopping_ = true;
  // Again and again: it may be just about to wait.
  while (!over_) {
    ::pthread_kill(thread_.native_handle(), wake_signal());
    std::this_thread::sleep_for(kWakeEvery);
  }
  thread_.join();
}

void ErrnoWitness::run(pid_t pid, std::promise<Result<void>> attached) {
  sigset_t all_but_ours;
  ::sigfillset(&all_but_ours);
  ::sigdelset(&all_but_ours, wake_signal());
  ::pthread_sigmask(SIG_SETMASK, &all_but_ours, nullptr);
  auto seized = seize_all(pid);
  const bool ok = seized.ok();
  attached.set_value(std::move(seized));
  while (ok && !stopping_ && !seen() && wait_for_one()) {
  }
  detach_all();
  over_ = true;
  // Whoever could not be detached from is so by the end of this thread.
}

Result<void> ErrnoWitness::seize_all(pid_t pid) {
  unsigned long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE;
  if (watch_.follow_children) options |= PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK;
  bool found = true;
  for (int pass = 0; found && pass < kMaxSeizePasses; ++pass) {
    found = false;
    std::error_code failure;
    const std::filesystem::path tasks = "/proc/" + std::to_string(pid) + "/task";
    for (std::filesystem::directory_iterator at(tasks, failure), end; !failure && at != end;
         at.increment(failure)) {
      const pid_t thread = std::atoi(at->path().filename().c_str());
      if (traced_.contains(thread)) continue;
      if (::ptrace(PTRACE_SEIZE, thread, nullptr, options) != 0) {
        if (errno == ESRCH) continue;  // It has ended.
        // A thread that a traced one has started since is ours already.
        if (errno == EPERM && number_in(thread, "TracerPid") == ::gettid() && !traced_.empty())
          continue;
        return system_error("trace process " + std::to_string(pid), errno);
      }
      found = true;
      traced_[thread];
      // Only one that is resumed by us stops at its calls.
      ::ptrace(PTRACE_INTERRUPT, thread, nullptr, nullptr);
    }
  }
  if (traced_.empty()) return Error{ErrorKind::kGone, ESRCH, "the process has ended", {}};
  return {};
}

bool ErrnoWitness::wait_for_one() {
  siginfo_t info{};
  // It is looked at first: an end that we take is hidden from nobody but a parent in our own
  // process.
  if (::waitid(P_ALL, 0, &info, WEXITED | WSTOPPED | WNOWAIT | kOurs) != 0) return errno == EINTR;
  const pid_t thread = info.si_pid;
  if (info.si_code == CLD_EXITED || info.si_code == CLD_KILLED || info.si_code == CLD_DUMPED) {
    traced_.erase(thread);
    if (number_in(thread, "Tgid") == thread && number_in(thread, "PPid") == ::getpid())
      return false;
    siginfo_t taken{};
    ::waitid(P_PID, static_cast<id_t>(thread), &taken, WEXITED | WNOHANG | kOurs);
    return true;
  }
  siginfo_t taken{};
  ::waitid(P_PID, static_cast<id_t>(thread), &taken, WSTOPPED | WNOHANG | kOurs);
  on_stop(thread, info.si_status);
  return true;
}

void ErrnoWitness::on_stop(pid_t thread, int status) {
  const int signal = status & 0xff;
  const int event = status >> 8;
  const bool call = signal == (SIGTRAP | 0x80);
  traced_.try_emplace(thread);
  if (call && !detaching_) on_call_stop(thread);
  if (event == PTRACE_EVENT_STOP && signal != SIGTRAP && !detaching_) {
    // Stopped by a signal, and stays so until a SIGCONT.
    ::ptrace(PTRACE_LISTEN, thread, nullptr, nullptr);
    return;
  }
  resume(thread, call || event != 0 ? 0 : signal);
}

void ErrnoWitness::resume(pid_t thread, int signal) {
  const auto data = static_cast<unsigned long>(signal);
  ::ptrace(detaching_ ? PTRACE_DETACH : PTRACE_SYSCALL, thread, nullptr, data);
  if (detaching_) traced_.erase(thread);
}

void ErrnoWitness::on_call_stop(pid_t thread) {
  __ptrace_syscall_info info{};
  if (::ptrace(PTRACE_GET_SYSCALL_INFO, thread, sizeof info, &info) <= 0) return;
  Call& call = traced_[thread];
  if (info.op == PTRACE_SYSCALL_INFO_ENTRY) {
    call.number = static_cast<int>(info.entry.nr);
    std::copy(std::begin(info.entry.args), std::end(info.entry.args), call.arguments.begin());
    return;
  }
  if (info.op != PTRACE_SYSCALL_INFO_EXIT) return;
  int error = info.exit.is_error != 0 ? static_cast<int>(-info.exit.rval) : 0;
  // brk(2) of the kernel fails by returning the break that there was.
  if (call.number == SYS_brk && static_cast<std::uint64_t>(info.exit.rval) < call.arguments[0])
    error = ENOMEM;
  const int number = std::exchange(call.number, -1);
  if (!wanted(number, error)) return;
  const Failure failure{now_ns(), static_cast<pid_t>(number_in(thread, "Tgid")), thread, number,
                        error};
  if (watch_.accepts && !watch_.accepts(failure, call.arguments)) return;
  const std::lock_guard lock(mutex_);
  if (failure_) return;
  failure_ = failure;
  ::eventfd_write(event_.get(), 1);
}

bool ErrnoWitness::wanted(int call, int error) const {
  return error != 0 && contains(watch_.errors, error) &&
         (watch_.calls.empty() || contains(watch_.calls, call));
}

void ErrnoWitness::detach_all() {
  detaching_ = true;
  const std::int64_t deadline = now_ns() + kDetachBoundNs;
  std::vector<pid_t> threads;
  for (const auto& [thread, call] : traced_) threads.push_back(thread);
  for (const pid_t thread : threads) {
    if (::ptrace(PTRACE_INTERRUPT, thread, nullptr, nullptr) != 0) traced_.erase(thread);
  }
  while (!traced_.empty() && now_ns() < deadline) {
    siginfo_t info{};
    const int flags = WEXITED | WSTOPPED | WNOWAIT | WNOHANG | kOurs;
    if (::waitid(P_ALL, 0, &info, flags) != 0) return;
    if (info.si_pid == 0) {
      std::this_thread::yield();
    } else if (!wait_for_one()) {
      return;
    }
  }
}

}  // namespace crashworthy
