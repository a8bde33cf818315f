#include "faults/call_server.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <utility>

#include "faults/caller.h"
#include "harness/os/check.h"
#include "harness/os/clock.h"

namespace crashworthy {
namespace {

using Kind = CallRule::Step::Kind;

// Linux 6.6: whoever waits for the other is woken on the CPU of the waker, which sleeps next.
constexpr std::uint64_t kSyncWakeUp = 1;
constexpr unsigned long kSetFlags = SECCOMP_IOW(4, std::uint64_t);

bool answer(const ReportedCall& call, std::int64_t value, int error, std::uint32_t flags) {
  seccomp_notif_resp response{};
  response.id = call.id;
  response.val = value;
  response.error = -error;
  response.flags = flags;
  int done = 0;
  do {
    done = ::ioctl(call.listener, SECCOMP_IOCTL_NOTIF_SEND, &response);
  } while (done != 0 && errno == EINTR);
  return done == 0;
}

}  // namespace

bool ReportedCall::waits() const {
  return ::ioctl(listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &id) == 0;
}
bool ReportedCall::go_on() const { return answer(*this, 0, 0, SECCOMP_USER_NOTIF_FLAG_CONTINUE); }
bool ReportedCall::fail(int error) const { return answer(*this, 0, error, 0); }
bool ReportedCall::give(std::int64_t value) const { return answer(*this, value, 0, 0); }

std::shared_ptr<CallServer> CallServer::of(LaunchPlan& launch) {
  if (!launch.call_server) {
    std::shared_ptr<CallServer> server(new CallServer());
    launch.call_server = server;
    launch.on_listener = [server](UniqueFd listener) { server->serve(std::move(listener)); };
  }
  return launch.call_server;
}

CallServer::CallServer() : wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

CallServer::~CallServer() { stop(); }

void CallServer::add(LaunchPlan& launch, std::span<const int> numbers,
                     std::shared_ptr<CallRule> rule) {
  CRASHWORTHY_CHECK(!thread_.joinable());
  for (const int number : numbers) {
    entries_.push_back({number, rule});
    auto& all = launch.notified_calls;
    if (std::find(all.begin(), all.end(), number) == all.end()) all.push_back(number);
  }
}

void CallServer::wake() const {
  const std::uint64_t one = 1;
  (void)!::write(wake_.get(), &one, sizeof one);
}

void CallServer::serve(UniqueFd listener) {
  stop();
  listener_ = std::move(listener);
  ::ioctl(listener_.get(), kSetFlags, kSyncWakeUp);  // Without it, it is only slower.
  // Signals are for others; and a transfer on a broken pipe must not end us.
  sigset_t all, before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([this] { run(); });
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

void CallServer::stop() {
  if (!thread_.joinable()) return;
  stopping_ = true;
  wake();
  thread_.join();
  stopping_ = false;
  listener_.reset();
}

void CallServer::run() {
  while (wait()) continue;
  for (const Held& held : held_) {
    (void)held.call.go_on();  // Nobody waits, unless we were told to stop.
    held.rule->caller_ended(held.call);
  }
  held_.clear();
}

// Waits for what comes next, and does it; false when there is nothing more to serve.
bool CallServer::wait() {
  polled_.assign({{listener_.get(), POLLIN, 0}, {wake_.get(), POLLIN, 0}});
  std::int64_t until_ns = INT64_MAX;
  for (const Held& held : held_) {
    polled_.push_back({held.caller.get(), POLLIN, 0});
    polled_.push_back({held.step.descriptor, held.step.events, 0});
    until_ns = std::min(until_ns, held.step.until_ns);
  }
  const std::int64_t left =
      until_ns == INT64_MAX ? 0 : std::max<std::int64_t>(0, until_ns - now_ns());
  const timespec timeout{left / 1'000'000'000, left % 1'000'000'000};
  if (::ppoll(polled_.data(), polled_.size(), until_ns == INT64_MAX ? nullptr : &timeout, nullptr) <
      0) {
    return errno == EINTR;
  }
  const bool woken = polled_[1].revents != 0;
  std::uint64_t count = 0;
  if (woken) (void)!::read(wake_.get(), &count, sizeof count);
  if (stopping_) return false;
  // Backwards, so that those that are over can be removed.
  for (std::size_t i = held_.size(); i-- > 0;) {
    if (look_at(held_[i], polled_[2 + 2 * i].revents != 0,
                polled_[3 + 2 * i].revents != 0 || woken))
      held_.erase(held_.begin() + static_cast<std::ptrdiff_t>(i));
  }
  if ((polled_[0].revents & POLLIN) != 0) {
    take_call();
    return true;
  }
  return polled_[0].revents == 0;  // Else the tree has ended.
}

void CallServer::take_call() {
  seccomp_notif report{};
  // A caller that was killed or interrupted since has taken its call back.
  if (::ioctl(listener_.get(), SECCOMP_IOCTL_NOTIF_RECV, &report) != 0) return;
  ReportedCall call;
  call.id = report.id;
  call.tid = static_cast<pid_t>(report.pid);
  call.number = report.data.nr;
  std::copy(std::begin(report.data.args), std::end(report.data.args), call.arguments.begin());
  call.received_ns = now_ns();
  call.listener = listener_.get();
  CallRule* taker = nullptr;
  for (const Entry& entry : entries_) {
    if (entry.number != call.number || !entry.rule->wants(call)) continue;
    if (taker != nullptr) entry.rule->was_beaten(call);
    if (taker == nullptr) taker = entry.rule.get();
  }
  CallRule::Step step;
  if (taker != nullptr) {
    step = taker->decide(call);
  } else if (!call.go_on()) {
    step.kind = Kind::kVanished;
  }
  if (step.kind == Kind::kVanished) {
    for (const Entry& entry : entries_) {
      if (entry.number == call.number) entry.rule->take_back(call);
    }
  }
  if (step.kind != Kind::kHeld) return;
  auto caller = open_thread(call.tid);
  held_.push_back({call, taker, step, caller ? *std::move(caller) : UniqueFd()});
}

// True when the call is over.
bool CallServer::look_at(Held& held, bool caller_ended, bool ready) {
  if (caller_ended) {
    held.rule->caller_ended(held.call);
    return true;
  }
  if (!ready && now_ns() < held.step.until_ns) return false;
  held.step = held.rule->decide(held.call);
  if (held.step.kind == Kind::kVanished) held.rule->caller_ended(held.call);
  return held.step.kind != Kind::kHeld;
}

namespace {

int install_harmless_filter(unsigned long flags) {
  sock_filter allow BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  const sock_fprog filter{1, &allow};
  const long done = ::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
                              SECCOMP_FILTER_FLAG_NEW_LISTENER | flags, &filter);
  return done < 0 ? errno : 0;
}

// Exit codes of the process that tries.
constexpr int kKillable = 0;
constexpr int kInterruptible = 1;
constexpr int kRefusedFrom = 100;  // Then an errno value.

[[noreturn]] void try_filters() {
  constexpr unsigned long kWaitKillable = 1ul << 5;
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) ::_exit(kRefusedFrom + errno);
  int error = install_harmless_filter(kWaitKillable);
  if (error == 0) ::_exit(kKillable);
  if (error == EINVAL) error = install_harmless_filter(0);
  ::_exit(error == 0 ? kInterruptible : kRefusedFrom + error);
}

NotifySupport try_support() {
  seccomp_notif_sizes sizes{};
  if (::syscall(SYS_seccomp, SECCOMP_GET_NOTIF_SIZES, 0, &sizes) != 0) {
    return {"this kernel reports no system calls (seccomp): " + std::string(std::strerror(errno)),
            false};
  }
  if (sizes.seccomp_notif != sizeof(seccomp_notif) ||
      sizes.seccomp_notif_resp != sizeof(seccomp_notif_resp)) {
    return {"this kernel reports system calls in another form than we know", false};
  }
  const pid_t pid = ::fork();
  if (pid == 0) try_filters();
  int status = 0;
  pid_t reaped = -1;
  do {
    reaped = pid < 0 ? -1 : ::waitpid(pid, &status, 0);
  } while (reaped < 0 && errno == EINTR);
  if (reaped < 0 || !WIFEXITED(status)) return {"a system call filter could not be tried", false};
  const int code = WEXITSTATUS(status);
  if (code < kRefusedFrom) return {"", code == kKillable};
  const int error = code - kRefusedFrom;
  return {"a system call filter with a listener is refused here" +
              std::string(error == EBUSY ? " (one is in force already): " : ": ") +
              std::strerror(error),
          false};
}

}  // namespace

const NotifySupport& notify_support() {
  static const NotifySupport support = try_support();
  return support;
}

}  // namespace crashworthy
