// What running the command again does, by hand, after a trial: where torn files, locks and stale
// temporary ones are left behind, that is no recovery.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>

#include "harness/process/launcher.h"

namespace crashworthy {

struct Rerun {
  WaitStatus status;
  bool ended = false;        // By itself, within the bounds.
  std::string failure;       // Why not; empty: it ended.
  bool interrupted = false;  // `interrupt_fd` became readable first.
  std::int64_t duration_ns = 0;
};

struct RerunBounds {
  std::chrono::nanoseconds timeout;
  std::chrono::nanoseconds linger;  // For what is left when its main process has ended.
  std::function<bool()> too_much;   // Asked now and then: it takes too much of the disk.
};

// Runs the command to its end, with all that it starts; nothing of it is left on return. That it
// cannot be started in what is left is told as its failure.
Result<Rerun> run_again(const LaunchSpec& launch, const RerunBounds& bounds, int interrupt_fd);

}  // namespace crashworthy
