#include "harness/experiment/clock_check.h"

#include <poll.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <vector>

#include "harness/os/clock.h"
#include "harness/os/pidfd.h"
#include "harness/probe/probe.h"

namespace crashworthy {
namespace {

constexpr std::int64_t kPlantedDelayNs = 2'000'000;
constexpr int kAnswerBoundMs = 1000;

// The child: from each signal's arrival to its record exactly the planted delay passes.
[[noreturn]] void run_planted_subject(const Probe& probe, pid_t parent) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(0);
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGUSR1);
  probe.emit(ProbeEvent::kWorkerReady, {});
  for (std::uint64_t item = 0;; ++item) {
    int signal = 0;
    ::sigwait(&signals, &signal);
    const std::int64_t until = now_ns() + kPlantedDelayNs;
    while (now_ns() < until) {
    }
    probe.emit(ProbeEvent::kDone, {}, item);
  }
}

// Waits until the probe has told of `count` events of this kind.
bool await(ProbeRing& ring, ProbeEvent event, std::uint64_t count) {
  ring.watch(event, count);
  pollfd poll_fd{ring.event_fd(), POLLIN, 0};
  while (ring.count(event) < count) {
    if (::poll(&poll_fd, 1, kAnswerBoundMs) <= 0) return false;
    ring.clear_event();
  }
  return true;
}

Result<ClockError> measure(ProbeRing& ring, int pidfd, int repetitions) {
  std::vector<double> errors;
  std::vector<ProbeRecord> records;
  if (!await(ring, ProbeEvent::kWorkerReady, 1))
    return Error{ErrorKind::kTimeout, 0, "the clock's planted subject did not start", {}};
  ring.drain(records);
  for (int i = 0; i < repetitions; ++i) {
    if (auto sent = send_signal(pidfd, SIGUSR1); !sent) return sent.error();
    const std::int64_t sent_ns = now_ns();
    if (!await(ring, ProbeEvent::kDone, static_cast<std::uint64_t>(i) + 1)) {
      return Error{ErrorKind::kTimeout, 0, "the clock's planted subject did not answer", {}};
    }
    records.clear();
    ring.drain(records);
    if (records.empty()) return corrupt_error("the clock's planted subject left no record");
    errors.push_back(static_cast<double>(
        std::max<std::int64_t>(0, records.back().time_ns - sent_ns - kPlantedDelayNs)));
  }
  std::sort(errors.begin(), errors.end());
  return ClockError{errors[errors.size() / 2], errors[errors.size() * 9 / 10], repetitions};
}

}  // namespace

Result<ClockError> measure_clock_error(int repetitions) {
  auto ring = ProbeRing::create(1 << 8);
  if (!ring) return ring.error();
  sigset_t signals;
  sigset_t before;
  sigemptyset(&signals);
  sigaddset(&signals, SIGUSR1);
  ::sigprocmask(SIG_BLOCK, &signals,
                &before);  // The child inherits it: no signal is lost before its first sigwait.
  const pid_t parent = ::getpid();
  const pid_t child = ::fork();
  if (child == 0) run_planted_subject(ring->probe(), parent);
  ::sigprocmask(SIG_SETMASK, &before, nullptr);
  if (child < 0) return system_error("start the clock's planted subject", errno);
  auto pidfd = open_pidfd(child);
  if (!pidfd) return pidfd.error();
  auto measured = measure(*ring, pidfd->get(), repetitions);
  (void)send_signal(pidfd->get(), SIGKILL);
  wait_for_end(pidfd->get(), kAnswerBoundMs);
  (void)reap(pidfd->get());
  return measured;
}

}  // namespace crashworthy
