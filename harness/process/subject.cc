// The members of Subject: reports, the processes of the tree, its end.
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>

#include "harness/os/clock.h"
#include "harness/os/pidfd.h"
#include "harness/process/cgroup.h"
#include "harness/process/process_tree.h"
#include "harness/process/subject_state.h"

namespace crashworthy {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kEndBound{10'000};
constexpr int kOuterGraceMs = 1'000;
constexpr std::size_t kMaxWaitingReports = 65536;

// A point in time from which poll(2)'s milliseconds are counted.
class Deadline {
 public:
  explicit Deadline(milliseconds bound) : at_ns_(now_ns() + Nanoseconds(bound).count()) {}
  int left_ms() const {
    const std::int64_t left = (at_ns_ - now_ns() + 999'999) / 1'000'000;
    return static_cast<int>(std::clamp<std::int64_t>(left, 0, 1 << 30));
  }

 private:
  std::int64_t at_ns_;
};

Report to_report(const Received& received, pid_t host_pid) {
  const Message& message = received.message;
  Report report;
  report.kind = message.kind == MessageKind::kMainEnded         ? Report::Kind::kMainEnded
                : message.kind == MessageKind::kDescendantEnded ? Report::Kind::kDescendantEnded
                                                                : Report::Kind::kChildless;
  report.pid = message.pid;
  report.host_pid = host_pid;
  report.status = WaitStatus::from_raw(message.raw_status);
  report.time_ns = message.time_ns;
  return report;
}

}  // namespace

pid_t Subject::State::our_pid(const Received& received) const {
  if (received.message.names_process != 0) return received.credentials_pid;
  return containment == Containment::kPidNamespace ? 0 : received.message.pid;
}

Result<void> Subject::State::receive() {
  while (!over && waiting.size() < kMaxWaitingReports) {
    auto received = receive_message(control.get());
    if (!received && received.error().kind != ErrorKind::kGone) return received.error();
    Report report;
    if (received) {
      if (!*received) return {};
      report = to_report(**received, our_pid(**received));
    } else {
      report.kind = killed ? Report::Kind::kChildless : Report::Kind::kGuardLost;
      report.time_ns = now_ns();
    }
    over = report.kind == Report::Kind::kChildless || report.kind == Report::Kind::kGuardLost;
    waiting.push_back(report);
  }
  return {};
}

void Subject::State::kill() {
  if (gone) return;
  killed = true;
  lifeline.reset();
  if (containment == Containment::kPidNamespace && reaper.valid()) {
    (void)send_signal(reaper.get(), SIGKILL);
  }
  if (cgroup.valid()) kill_cgroup(cgroup.get());
  // The guardians do the rest, also when somebody has stopped them.
  if (reaper.valid()) (void)send_signal(reaper.get(), SIGCONT);
  (void)send_signal(outer.get(), SIGCONT);
}

bool Subject::State::wait_until_gone(milliseconds bound) {
  if (gone) return true;
  const Deadline deadline(bound);
  // Reports are taken meanwhile: the reaper does not go on while its socket is full.
  while (reaper.valid() && !has_ended(reaper.get())) {
    if (deadline.left_ms() == 0) return false;
    (void)receive();
    pollfd fds[2] = {{reaper.get(), POLLIN, 0}, {over ? -1 : control.get(), POLLIN, 0}};
    ::poll(fds, 2, deadline.left_ms());
  }
  // The outer process reaps the reaper and ends. One that is stopped has nothing left to guard in a
  // namespace; one that never got to work does not see its lifeline, and a reaper that it may have
  // started ends with it.
  if ((containment == Containment::kPidNamespace || !reaper.valid()) &&
      !wait_for_end(outer.get(), std::min(kOuterGraceMs, deadline.left_ms()))) {
    (void)send_signal(outer.get(), SIGKILL);
  }
  if (!wait_for_end(outer.get(), deadline.left_ms())) return false;
  (void)reap(outer.get());  // Not ours any more when SIGCHLD is ignored: gone all the same.
  // What follows has work only when both guardians were killed.
  if (cgroup.valid()) {
    kill_cgroup(cgroup.get());
    if (!wait_until_empty(cgroup.get(), milliseconds(deadline.left_ms()))) return false;
    remove_cgroup(cgroup.get());
  }
  if (main.valid() && !has_ended(main.get())) {
    (void)send_signal(main.get(), SIGKILL);
    if (!wait_for_end(main.get(), deadline.left_ms())) return false;
  }
  gone = true;
  return true;
}

Subject::Subject(std::unique_ptr<State> state) : state_(std::move(state)) {}
Subject::Subject(Subject&& other) noexcept = default;

Subject& Subject::operator=(Subject&& other) noexcept {
  Subject ended(std::move(*this));
  state_ = std::move(other.state_);
  return *this;
}

Subject::~Subject() {
  if (!state_) return;
  kill_tree();
  wait_until_gone(kEndBound);
}

pid_t Subject::main_pid() const { return state_->main_pid; }
int Subject::main_pidfd() const { return state_->main.get(); }
Containment Subject::containment() const { return state_->containment; }
const std::string& Subject::containment_reason() const { return state_->reason; }
int Subject::report_fd() const { return state_->control.get(); }

Result<std::vector<Report>> Subject::read_reports() {
  auto received = state_->receive();
  if (!received) return received.error();
  std::vector<Report> reports(state_->waiting.begin(), state_->waiting.end());
  state_->waiting.clear();
  return reports;
}

std::vector<pid_t> Subject::descendants() const {
  const auto outer = pid_of_pidfd(state_->outer.get());
  const auto reaper = pid_of_pidfd(state_->reaper.get());
  std::vector<pid_t> pids;
  // After the death of the outer process the reaper is the root.
  const auto root = outer && !has_ended(state_->outer.get()) ? outer : reaper;
  if (!root) return pids;
  for (const TreeProcess& process : descendants_of(*root)) {
    if (process.pid != reaper) pids.push_back(process.pid);
  }
  const auto main = std::find(pids.begin(), pids.end(), state_->main_pid);
  if (main != pids.end()) std::rotate(pids.begin(), main, main + 1);
  return pids;
}

Result<UniqueFd> Subject::open_process(pid_t pid_in_subject) const {
  const Error gone{
      ErrorKind::kGone, 0, "the subject has no process " + std::to_string(pid_in_subject), {}};
  // Our namespace comes first in NSpid, then those between, then the subject's, which is that of
  // the reaper, then those that the subject itself has made.
  const auto reaper = pid_of_pidfd(state_->reaper.get());
  const std::size_t depth = reaper ? namespace_pids(*reaper).size() : 0;
  if (depth == 0) return gone;
  for (const pid_t pid : descendants()) {
    const auto is_meant = [&] {
      const auto pids = namespace_pids(pid);
      return pids.size() >= depth && pids[depth - 1] == pid_in_subject;
    };
    if (!is_meant()) continue;
    auto pidfd = open_pidfd(pid);
    // Looked at again: the pid may have gone to another process before it was opened.
    if (pidfd && is_meant()) return pidfd;
  }
  return gone;
}

void Subject::kill_tree() { state_->kill(); }

bool Subject::wait_until_gone(milliseconds bound) { return state_->wait_until_gone(bound); }

}  // namespace crashworthy
