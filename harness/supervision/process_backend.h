// ProcessBackend: the processes of a supervision tree, each child behind a shim of its own.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "harness/os/result.h"
#include "harness/supervision/backend.h"
#include "harness/supervision/tree_logic.h"

namespace crashworthy {

// Owns the shims, and with them all processes. A child's shim is made at its first start, kept for
// its restarts, and ended by forget().
//
// Three calls block. start() makes the shim when there is none: usually about 1 ms, at most 10 s
// (then it counts as a start that failed). forget() waits until the shim and all below it are gone,
// the destructor until all are, which end at the same time: usually milliseconds, at most 10 s for
// each child in whose tree a process is stuck in the kernel; then that is left to the kernel.
// wait(), gather_all() and a start() that finds its shim killed by others wait like forget() for
// what is left of such a shim's tree.
//
// What happens is gathered by wait() and told to the logic by deliver(), in the order in which it
// happened. Descriptors that children write to are read a bounded amount at a time. One thread uses
// a ProcessBackend.
class ProcessBackend final : public Backend {
 public:
  static Result<std::unique_ptr<ProcessBackend>> create();
  ~ProcessBackend() override;
  ProcessBackend(const ProcessBackend&) = delete;
  ProcessBackend& operator=(const ProcessBackend&) = delete;

  void start(ProcessKey key, const std::string& path, const ChildSpec& spec) override;
  void stop(ProcessKey key) override;
  void kill(ProcessKey key) override;
  void suspend(ProcessKey key) override;
  void resume(ProcessKey key) override;
  void forget(std::uint64_t child) override;
  // Kills everything, without waiting: before the destruction of a logic that has children, which
  // forgets them one after the other.
  void kill_all();

  // Readable when wait() has something to gather, deliver() has something to tell, or the moment
  // given to set_alarm() has come.
  int event_fd() const;
  // Makes event_fd() readable at `when` (CLOCK_MONOTONIC ns), or never.
  void set_alarm(std::optional<std::int64_t> when);
  // Waits until there is something, or the alarm, a signal or `until` comes; gathers what there is.
  Result<void> wait(std::int64_t until);
  // Gathers all that there is now, of however many children; does not wait.
  Result<void> gather_all();
  // Tells `logic` all that was gathered; false when that is nothing.
  bool deliver(TreeLogic* logic);
  // The next moment at which deliver() has something that no descriptor announces.
  std::optional<std::int64_t> next_deadline() const;

  // The processes of the shims that are children of this process.
  std::vector<pid_t> own_pids() const;

 private:
  class Impl;
  explicit ProcessBackend(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace crashworthy
