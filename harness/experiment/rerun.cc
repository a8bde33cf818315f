#include "harness/experiment/rerun.h"

#include <poll.h>

#include <algorithm>

#include "harness/os/clock.h"

namespace crashworthy {
namespace {

constexpr std::chrono::seconds kGoneBound(10);
constexpr std::int64_t kLookEveryNs = 500'000'000;  // At the disk.

}  // namespace

Result<Rerun> run_again(const LaunchSpec& launch, const RerunBounds& bounds, int interrupt_fd) {
  const std::int64_t begin = now_ns();
  Rerun rerun;
  auto subject = Subject::launch(launch);
  if (!subject) {
    rerun.failure = subject.error().message;
    return rerun;
  }
  std::int64_t until = begin + bounds.timeout.count();
  for (bool over = false; !over;) {
    pollfd fds[] = {{subject->report_fd(), POLLIN, 0}, {interrupt_fd, POLLIN, 0}};
    const std::int64_t left_ns = std::clamp<std::int64_t>(until - now_ns(), 0, kLookEveryNs);
    (void)::poll(fds, 2, static_cast<int>(left_ns / 1'000'000));
    over = now_ns() >= until;
    if (bounds.too_much()) {
      over = true;
      rerun.failure = "it took too much of the disk";
    }
    if (fds[1].revents != 0) over = rerun.interrupted = true;
    if (fds[0].revents == 0) continue;
    auto reports = subject->read_reports();
    if (!reports) return reports.error();
    for (const Report& report : *reports) {
      if (report.kind == Report::Kind::kMainEnded) {
        rerun.ended = true;
        rerun.status = report.status;
        rerun.duration_ns = report.time_ns - begin;
        until = std::min(until, report.time_ns + bounds.linger.count());
      }
      over = over || report.kind == Report::Kind::kChildless ||
             report.kind == Report::Kind::kGuardLost;
    }
  }
  subject->kill_tree();
  if (!subject->wait_until_gone(kGoneBound))
    return Error{
        ErrorKind::kTimeout, 0, "the processes of the command's second run do not end", {}};
  if (!rerun.ended) rerun.duration_ns = now_ns() - begin;
  if (!rerun.ended && rerun.failure.empty()) rerun.failure = "did not end in time";
  return rerun;
}

}  // namespace crashworthy
