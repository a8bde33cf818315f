// WorkerPool: an Executor over isolated processes. A worker's crash costs its own unit of work at
// most, and with redelivery nothing.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>

#include "harness/worker/executor.h"

namespace crashworthy {

struct PoolOptions {
  int workers = 2;
  // Warm processes that wait to take a dead worker's place. 0: a replacement is forked at the
  // death.
  int spares = 1;
  // false: a dead worker stays dead (`processes`), what it held is kLost.
  bool restart = true;
  // false: what a dead worker held is kLost, although it is replaced (Broadway's behaviour).
  bool redeliver = true;
  // Jobs given to one worker at a time: the one it executes and those that wait in its queue.
  int max_demand = 2;
  // An item is poison after so many deaths by self-inflicted signals, the last of them retried
  // alone; so at least 2. A unit of work killed at the deadline counts likewise, and ends as
  // kFailed with FailureReason::kDeadline when the last one was such.
  int max_deaths = 2;
  // More than `intensity` deaths (of spares too) within `period` end the pool: wait() fails. Of no
  // effect without `restart`.
  int intensity = 100;
  std::chrono::nanoseconds period = std::chrono::seconds(10);
  // A unit of work that takes longer is killed as hung. 0: none.
  std::chrono::nanoseconds deadline = std::chrono::seconds(30);
};

// ProbeRecord::worker of the kWorkerDied of a spare, which has no place; its incarnation is 0.
inline constexpr std::uint32_t kSpareWorker = 0xFFFFFFFF;

// Forks the workers from the calling process, which must be single-threaded now and whenever a
// replacement is forked (kUsage otherwise), and stays the coordinator. One thread uses the pool.
// The destructor drops what is queued, ends every worker and reaps it; workers die with the
// coordinator. Workers inherit every descriptor and mapping that the caller has now; a replacement,
// those that the caller has then.
//
// Deaths are seen, and jobs redone, inside wait(): a coordinator that stays away from it recovers
// late. Once no job can run any more (no worker is left, too many deaths, a fork that failed)
// wait() returns the results it still has and then, for ever, the error; in_flight() counts what
// never came back.
Result<std::unique_ptr<Executor>> make_worker_pool(const PoolOptions& options, JobFunction function,
                                                   Probe probe);

}  // namespace crashworthy
