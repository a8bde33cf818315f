// What running the command again does, by hand, after a trial: where torn files, locks and stale
// temporary ones are left behind, that is no recovery.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "harness/process/launcher.h"

namespace crashworthy {

struct Rerun {
  WaitStatus status;
  bool ended = false;        // By itself, within the bound.
  bool interrupted = false;  // `interrupt_fd` became readable first.
  std::int64_t duration_ns = 0;
};

// Runs the command to its end, with all that it starts; nothing of it is left on return.
Result<Rerun> run_again(const LaunchSpec& launch, std::chrono::nanoseconds bound, int interrupt_fd);

}  // namespace crashworthy
