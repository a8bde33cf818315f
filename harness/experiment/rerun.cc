#include "harness/experiment/rerun.h"

#include <poll.h>

#include <algorithm>

#include "harness/os/clock.h"

namespace crashworthy {
namespace {

constexpr std::chrono::seconds kGoneBound(10);

}  // namespace

Result<Rerun> run_again(const LaunchSpec& launch, std::chrono::nanoseconds bound,
                        int interrupt_fd) {
  const std::int64_t begin = now_ns();
  auto subject = Subject::launch(launch);
  if (!subject) return subject.error();
  Rerun rerun;
  for (bool over = false; !over;) {
    const std::int64_t left_ns = std::max<std::int64_t>(0, begin + bound.count() - now_ns());
    pollfd fds[] = {{subject->report_fd(), POLLIN, 0}, {interrupt_fd, POLLIN, 0}};
    over = ::poll(fds, 2, static_cast<int>(std::min<std::int64_t>(left_ns / 1'000'000, 60'000))) ==
               0 &&
           now_ns() - begin >= bound.count();
    if (fds[1].revents != 0) over = rerun.interrupted = true;
    if (fds[0].revents == 0) continue;
    auto reports = subject->read_reports();
    if (!reports) return reports.error();
    for (const Report& report : *reports) {
      if (report.kind == Report::Kind::kMainEnded) {
        rerun.ended = true;
        rerun.status = report.status;
        rerun.duration_ns = report.time_ns - begin;
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
  return rerun;
}

}  // namespace crashworthy
