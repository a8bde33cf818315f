// What every executor does around the job function, in a thread or in a worker process.
#pragma once

#include "harness/worker/executor.h"

namespace crashworthy {

// Tells the probe kStarted, calls `function`, tells kDone if it succeeded. An output of more than
// kMaxPayload bytes becomes the failure kTooLarge. What `function` throws leaves this function.
JobOutput run_job(const JobFunction& function, const Job& job, const JobContext& context,
                  const Probe& probe);

}  // namespace crashworthy
