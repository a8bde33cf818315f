// A launched command as injections see it, for tests without a trial around them.
#pragma once

#include <vector>

#include "faults/victim.h"
#include "harness/os/clock.h"
#include "harness/os/pidfd.h"
#include "harness/process/launcher.h"

namespace crashworthy {

class LaunchedSubject : public SubjectView {
 public:
  explicit LaunchedSubject(Subject& subject) : subject_(subject) {}
  void refresh() override {}
  const WorkerTracker& workers() const override { return tracker_; }
  bool supervised() const override { return false; }
  bool isolated() const override { return false; }
  std::int32_t main_pid() const override {
    return pid_in_own_namespace(subject_.main_pid()).value_or(0);
  }
  std::int32_t supervisor_pid() const override { return 0; }
  Result<UniqueFd> open(std::int32_t pid) const override { return subject_.open_process(pid); }
  std::vector<pid_t> host_pids() const override { return subject_.descendants(); }
  Moment moment() const override {
    Moment moment;
    moment.now_ns = now_ns();
    moment.launched_ns = launched_ns_;
    return moment;
  }

 private:
  Subject& subject_;
  WorkerTracker tracker_;
  const std::int64_t launched_ns_ = now_ns();
};

}  // namespace crashworthy
