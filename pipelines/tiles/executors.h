// The arms: the same jobs on threads, on isolated workers and on supervised ones, with the same
// frames and as many jobs for each worker.
#pragma once

#include <memory>

#include "harness/os/result.h"
#include "harness/probe/probe.h"
#include "harness/worker/executor.h"
#include "harness/worker/pool.h"
#include "pipelines/tiles/settings.h"

namespace crashworthy::tiles {

// For a Pipeline with the same settings. `run` is to be Jobs::run(). To be called before any thread
// exists, after warm_up().
Result<std::unique_ptr<Executor>> make_executor(const Settings& settings, JobFunction run,
                                                const Probe& probe);
// The one of worker processes, whatever settings.supervision says of threads.
Result<std::unique_ptr<Pool>> make_pool(const Settings& settings, JobFunction run,
                                        const Probe& probe);

}  // namespace crashworthy::tiles
