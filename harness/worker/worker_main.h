// The life of a worker process, after the fork.
#pragma once

#include <sys/types.h>

#include "harness/worker/executor.h"
#include "harness/worker/lease.h"

namespace crashworthy {

// Makes a forked child its own process: default signal dispositions, nothing blocked, SIGPIPE
// ignored, and dead as soon as `coordinator` (its parent) is.
void settle_in(pid_t coordinator);

// Takes orders from `socket` until the coordinator closes it, then ends the process without running
// anything of the parent's (no destructors, no atexit). An exception of `function` ends it by
// SIGABRT.
[[noreturn]] void run_worker(int socket, Lease& lease, const JobFunction& function,
                             const Probe& probe) noexcept;

}  // namespace crashworthy
