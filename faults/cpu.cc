// resource.cpu_steal: processes of ours spin beside the subject. resource.cpu_quota: the victim is
// stopped and continued in cycles of 10 ms, so that it runs for a share of the time only.
//
// Both are proved by processor time: that which the spinners had, and that which the victim had
// although it wanted more. Spinners end with the harness; a victim that is stopped when the harness
// dies is killed with the subject.
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <condition_variable>
#include <csignal>
#include <ctime>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>

#include "faults/mechanisms.h"
#include "harness/os/clock.h"
#include "harness/os/pidfd.h"
#include "harness/os/proc.h"

namespace crashworthy {
namespace {

using nlohmann::json;

constexpr std::int64_t kNever = INT64_MAX;

// What a process has had, in ns; empty when it is gone.
std::optional<std::int64_t> cpu_ns(pid_t pid) {
  clockid_t clock{};
  timespec used{};
  if (::clock_getcpuclockid(pid, &clock) != 0 || ::clock_gettime(clock, &used) != 0)
    return std::nullopt;
  return used.tv_sec * 1'000'000'000 + used.tv_nsec;
}

// ---- cpu_steal ----

[[noreturn]] void spin(pid_t parent) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  ::setsid();
  // Above all no end of anybody's lifeline.
  ::syscall(SYS_close_range, 0u, ~0u, 0u);
  for (volatile unsigned count = 0;;) {
    count = count + 1;
    // The thread that started it may have ended before the line above.
    if ((count & 0xfffff) == 0 && ::getppid() != parent) ::_exit(0);
  }
}

class StealInjection : public Injection {
 public:
  using Injection::Injection;
  ~StealInjection() override { end_all(); }

 protected:
  bool fire(SubjectView&) override {
    const std::int64_t count = fault_.has("workers")
                                   ? fault_.number("workers")
                                   : std::min(::sysconf(_SC_NPROCESSORS_ONLN), kMaxSpinners);
    log_step("fire", {{"workers", count}});
    started_ns_ = now_ns();
    const pid_t self = ::getpid();
    for (std::int64_t i = 0; i < count; ++i) {
      const pid_t pid = ::fork();
      if (pid == 0) spin(self);
      auto pidfd = pid > 0 ? open_pidfd(pid) : Result<UniqueFd>(system_error("fork", errno));
      if (!pidfd) {
        if (pid > 0) {
          ::kill(pid, SIGKILL);  // Our child, which nobody else reaps.
          ::waitpid(pid, nullptr, 0);
        }
        end_all();
        skip(pidfd.error().message);
        return false;
      }
      spinners_.push_back({pid, *std::move(pidfd)});
    }
    log_step("fired", {{"started_ns", started_ns_}});
    return true;
  }

  void work(SubjectView&) override {
    if (!spinners_.empty() && now_ns() >= due_ns()) end_all();
  }
  std::int64_t next_work_ns() const override { return spinners_.empty() ? kNever : due_ns(); }

  Outcome confirm(const InjectionEvidence&) override {
    end_all();
    const std::int64_t least = used_.empty() ? 0 : *std::min_element(used_.begin(), used_.end());
    log_step("evidence", {{"spinners", used_.size()},
                          {"each_had_at_least_ms", least / 1'000'000},
                          {"cpu_ns", used_},
                          {"wall_ns", ended_ns_ - started_ns_}});
    // A spinner that others keep from running is no theft.
    if (used_.empty() || least < kLeastCpuNs)
      return not_activated("a spinner had no processor time to speak of");
    return confirmed(started_ns_);
  }

  std::string heal() override {
    end_all();
    return used_.empty() ? "nothing to undo" : "spinners killed";
  }

 private:
  struct Spinner {
    pid_t pid = 0;
    UniqueFd pidfd;
  };
  // More would take the processor from us, too, and only measure the scheduler.
  static constexpr std::int64_t kMaxSpinners = 64;
  static constexpr std::int64_t kLeastCpuNs = 1'000'000;

  std::int64_t due_ns() const {
    return fault_.has("duration") ? started_ns_ + fault_.number("duration") : kNever;
  }

  void end_all() {
    if (spinners_.empty()) return;
    for (const Spinner& spinner : spinners_) used_.push_back(cpu_ns(spinner.pid).value_or(0));
    ended_ns_ = now_ns();
    for (const Spinner& spinner : spinners_) (void)send_signal(spinner.pidfd.get(), SIGKILL);
    for (const Spinner& spinner : spinners_) ::waitpid(spinner.pid, nullptr, 0);
    spinners_.clear();
  }

  std::vector<Spinner> spinners_;
  std::vector<std::int64_t> used_;
  std::int64_t started_ns_ = 0;
  std::int64_t ended_ns_ = 0;
};

// ---- cpu_quota ----

// Stops and continues a process from a thread of its own.
class Throttle {
 public:
  struct Measured {
    std::int64_t cycles = 0;
    std::int64_t held_back = 0;  // Cycles in which it had run and would have gone on.
    std::int64_t cpu_ns = 0;
    std::int64_t wall_ns = 0;
    std::int64_t most_threads = 1;  // That wanted to run at once.
  };

  Throttle(int pidfd, pid_t pid, std::int64_t share)
      : pidfd_(pidfd), pid_(pid), run_ns_(kCycleNs * share / 100), thread_([this] { run(); }) {}
  ~Throttle() { stop(); }

  // The victim goes on as ever after it.
  Measured stop() {
    if (thread_.joinable()) {
      {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
      }
      wake_.notify_all();
      thread_.join();
      (void)send_signal(pidfd_, SIGCONT);
    }
    return measured_;
  }

 private:
  static constexpr std::int64_t kCycleNs = 10'000'000;

  // False when it is to end.
  bool rest(std::int64_t ns) {
    std::unique_lock lock(mutex_);
    return !wake_.wait_for(lock, Nanoseconds(ns), [this] { return stopping_; });
  }

  void run() {
    const std::int64_t start = now_ns();
    const std::int64_t before = cpu_ns(pid_).value_or(0);
    while (send_signal(pidfd_, SIGCONT) && rest(run_ns_)) {
      const std::string states = thread_states(pid_);
      const auto wanting = std::count(states.begin(), states.end(), 'R');
      if (!send_signal(pidfd_, SIGSTOP)) break;
      // At each cycle: it may be gone at the end.
      const std::int64_t used = cpu_ns(pid_).value_or(before + measured_.cpu_ns) - before;
      const std::int64_t fresh = used - std::exchange(measured_.cpu_ns, used);
      const bool goes_on = rest(kCycleNs - run_ns_);
      measured_.wall_ns = now_ns() - start;
      if (has_ended(pidfd_)) break;
      ++measured_.cycles;
      // To be woken by SIGCONT alone makes it run too, but not for long.
      measured_.held_back += wanting > 0 && fresh > run_ns_ / 2;
      measured_.most_threads = std::max<std::int64_t>(measured_.most_threads, wanting);
      if (!goes_on) break;
    }
  }

  const int pidfd_;
  const pid_t pid_;
  const std::int64_t run_ns_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stopping_ = false;
  Measured measured_;
  std::thread thread_;
};

class QuotaInjection : public Injection {
 public:
  using Injection::Injection;

 protected:
  bool fire(SubjectView& subject) override {
    auto victim = pick_victim(subject);
    if (!victim || victim->host_pid == 0 || has_ended(victim->pidfd.get())) return false;
    log_step("fire", {{"share_percent", fault_.number("share")},
                      {"victim", to_json(*victim, fault_.victim.role)}});
    victims_.push_back(*std::move(victim));
    started_ns_ = now_ns();
    throttle_ = std::make_unique<Throttle>(victims_.front().pidfd.get(), victims_.front().host_pid,
                                           fault_.number("share"));
    log_step("fired", {{"started_ns", started_ns_}});
    return true;
  }

  void work(SubjectView&) override {
    if (throttle_ && now_ns() >= due_ns()) end();
  }
  std::int64_t next_work_ns() const override { return throttle_ ? due_ns() : kNever; }

  Outcome confirm(const InjectionEvidence&) override {
    end();
    const double wall = std::max<double>(1, static_cast<double>(measured_.wall_ns));
    const double used = static_cast<double>(measured_.cpu_ns) / wall * 100;
    const double allowed =
        static_cast<double>(fault_.number("share") * measured_.most_threads) + kTolerancePercent;
    log_step("evidence", {{"cycles", measured_.cycles},
                          {"held_back", measured_.held_back},
                          {"cpu_ns", measured_.cpu_ns},
                          {"wall_ns", measured_.wall_ns},
                          {"used_percent", used}});
    if (measured_.cycles < kLeastCycles)
      return indeterminate("it lasted too short for its share to be measured");
    if (measured_.held_back < kLeastCycles)
      return not_activated("the victim hardly ever wanted the processor when it was stopped");
    if (used > allowed) return indeterminate("the victim had more than its share of the processor");
    return confirmed(started_ns_);
  }

  std::string heal() override {
    end();
    return victims_.empty() ? "nothing to undo" : "SIGCONT sent";
  }

 private:
  static constexpr std::int64_t kLeastCycles = 5;
  // The machine wakes us late at times, and each stop takes a while.
  static constexpr double kTolerancePercent = 15;

  std::int64_t due_ns() const {
    return fault_.has("duration") ? started_ns_ + fault_.number("duration") : kNever;
  }
  void end() {
    if (throttle_) measured_ = throttle_->stop();
    throttle_.reset();
  }

  std::unique_ptr<Throttle> throttle_;  // Before the victims, whose pidfd it borrows, are gone.
  Throttle::Measured measured_;
  std::int64_t started_ns_ = 0;
};

}  // namespace

std::unique_ptr<Injection> make_cpu_injection(InjectionSetup setup) {
  if (setup.fault.fault == "resource.cpu_steal")
    return std::make_unique<StealInjection>(std::move(setup));
  return std::make_unique<QuotaInjection>(std::move(setup));
}

}  // namespace crashworthy
