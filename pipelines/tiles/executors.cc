#include "pipelines/tiles/executors.h"

#include <cerrno>
#include <utility>

#include "pipelines/tiles/runtime.h"
#include "pipelines/tiles/sizing.h"

namespace crashworthy::tiles {

Result<std::unique_ptr<Executor>> make_executor(const Settings& settings, JobFunction run,
                                                const Probe& probe) {
  if (settings.supervision == Supervision::kNone) {
    return make_thread_executor(settings.workers, std::move(run), probe, size_up(settings).region);
  }
  auto pool = make_pool(settings, std::move(run), probe);
  if (!pool) return pool.error();
  return std::unique_ptr<Executor>(*std::move(pool));
}

Result<std::unique_ptr<Pool>> make_pool(const Settings& settings, JobFunction run,
                                        const Probe& probe) {
  const bool restart = settings.supervision != Supervision::kIsolate;
  const Sizing sizing = size_up(settings);
  PoolOptions options;
  options.workers = settings.workers;
  options.spares = restart ? settings.spares : 0;
  options.restart = restart;
  options.redeliver = restart;
  options.intensity = settings.intensity;
  options.period = settings.period;
  options.deadline = settings.deadline;
  options.max_demand = sizing.jobs_per_worker;
  // Results held back would stay writable meanwhile, and may be of another image.
  options.batch = 1;
  options.output_bytes = settings.frame_bytes;
  options.frame_bytes = sizing.region - settings.frame_bytes;
  options.warm_up = warm_up_job(settings);
  auto pool = make_worker_pool(options, std::move(run), probe);
  if (pool || pool.error().sys_errno != ENOMEM) return pool;
  Error error = pool.error();
  error.hint = "take a smaller --frame-bytes, or fewer workers: each has room for several images";
  return error;
}

}  // namespace crashworthy::tiles
