// WorkerPool: an Executor over isolated processes. A worker's crash costs its own unit of work at most, and with redelivery nothing.
#pragma once

#include <chrono>
#include <memory>

#include "harness/worker/executor.h"

namespace crashworthy {

struct PoolOptions {
  int workers = 2;
  int spares = 1;            // Warm processes that wait to take a dead worker's place. 0: a replacement is forked at the death.
  bool restart = true;       // false: a dead worker stays dead (`processes`), what it held is kLost.
  bool redeliver = true;     // false: what a dead worker held is kLost, although it is replaced (Broadway's behaviour).
  int max_demand = 2;        // Jobs given to one worker at a time: the one it executes and those that wait in its queue.
  int max_deaths = 2;        // An item is poison after so many deaths by self-inflicted signals, the last of them retried alone.
  int intensity = 100;       // More than `intensity` deaths within `period` end the pool (wait() fails).
  std::chrono::nanoseconds period = std::chrono::seconds(10);
  std::chrono::nanoseconds deadline = std::chrono::seconds(30);  // A unit of work that takes longer is killed as hung. 0: none.
};

// Forks the workers from the calling process, which must be single-threaded now (refused otherwise) and stays the coordinator.
// One thread uses the pool. The destructor ends every worker and reaps it; workers die with the coordinator.
// Workers inherit every descriptor and mapping that the caller has now.
Result<std::unique_ptr<Executor>> make_worker_pool(const PoolOptions& options, JobFunction function, Probe probe);

}  // namespace crashworthy
