// Pool: an Executor over isolated processes. A worker's crash costs its own unit of work at most,
// and with redelivery nothing but some tenths of a millisecond.
//
// How it works is in docs/worker-pool.md.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "harness/worker/executor.h"

namespace crashworthy {

struct PoolOptions {
  int workers = 2;
  // Warm processes that wait to take over what a dead worker was executing. 0: a replacement is
  // forked at the death. One guards up to 127 workers; while it is being replaced, deaths are known
  // only when the kernel has taken the dead process down.
  int spares = 1;
  // false: a dead worker stays dead (`processes`), what it held is kLost.
  bool restart = true;
  // false: what a dead worker held is kLost, although it is replaced (Broadway's behaviour).
  bool redeliver = true;
  // false: spares wait until a worker's death is proved. For comparison.
  bool take_over = true;

  // Jobs given to one worker at a time: the one it executes and those that wait in its queue. From
  // 1 to 64.
  int max_demand = 2;
  // A worker tells of its results as soon as no more jobs than this wait in its queue. Less than
  // max_demand; -1: half of it. With max_demand - 1 every result is told at once.
  int min_demand = -1;
  // Results that a worker may hold back to protect and tell them at once, for jobs of some
  // microseconds with frames. Until then their frames stay writable to the jobs that follow, and
  // they count as not begun: when it dies they are executed again. Not with max_attempts = 1.
  int batch = 1;
  // true: results come in the order of their jobs' submission.
  bool ordered = false;

  // A job is poison after so many deaths of its own making, the last of them retried alone, in a
  // process that had executed nothing before; so at least 2. Its own making are signals of a crash
  // (SIGSEGV, SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS) and of a limit (SIGXCPU, SIGXFSZ),
  // and exits, whatever their code. A unit of work killed as hung counts likewise, and ends as
  // kFailed with FailureReason::kDeadline when the last one was such. SIGKILL, SIGTERM and the rest
  // convict nobody.
  int max_deaths = 2;
  // A unit of work whose workers died so often while they executed it, of whatever, ends as kFailed
  // with FailureReason::kRetries (kDeadline when the last one was killed as hung): one that the
  // kernel kills for its memory each time does not spend the pool. 0: no bound; 1: what was begun
  // is never executed again. With fewer than max_deaths no job is ever convicted.
  int max_attempts = 10;
  // More than `intensity` deaths (of spares too) within `period` end the pool, whose workers die
  // without being able to work: wait() fails. A death of a job's own making, as said at max_deaths,
  // and by the deadline or heartbeat of one, does not count: each job has a bounded number of them.
  // Those from outside count, and those at the start and without a job. Of no effect without
  // `restart`.
  int intensity = 100;
  std::chrono::nanoseconds period = std::chrono::seconds(10);
  // A unit of work that takes longer is killed as hung; Job::deadline goes before it. A process
  // without a job is killed when it takes longer than twice that to start (10 s at least) or to
  // become a worker (1 s at least). 0: none.
  std::chrono::nanoseconds deadline = std::chrono::seconds(30);
  // One that does not call JobContext::heartbeat() for so long is killed as hung. 0: none.
  std::chrono::nanoseconds heartbeat{0};

  // The largest Job::output_bytes, and the room for frames of each worker beside it, and of the
  // caller. Memory is taken only where it is touched. Each frame takes frame_extent() of it.
  std::size_t output_bytes = 0;
  std::size_t frame_bytes = 0;
  // true: jobs fill their outputs in the thread that calls the job function, and in threads that it
  // starts meanwhile. Then outputs of up to 4 MB are protected by the CPU's protection keys, where
  // it has them, in place of a copy (up to 256 KB) or of two changes of the page tables, which may
  // cost more than the job. Threads that were there before, as those of a library's pool, and
  // signal handlers would die of touching them.
  bool protection_keys = false;

  // A job that every process executes once before it counts as ready, so that its first real one
  // finds everything loaded, mapped and touched. Its result is dropped; it must have no effect.
  // What it throws is a crash there, and make_worker_pool() fails.
  //
  // The first process of all may take a minute for it, whatever the deadline: make_worker_pool()
  // waits so long, and fails with kTimeout. Each later one may take twice `deadline`, 10 s at least
  // (0: however long). Loading of models that is slower must come before the pool is made.
  std::optional<Job> warm_up;
  // How long the caller and idle workers look for news before they sleep, which costs about 10 us.
  std::chrono::nanoseconds spin = std::chrono::microseconds(2);
};

// What happened in a pool so far.
struct PoolStatistics {
  std::uint64_t worker_deaths = 0;  // Of spares too.
  std::uint64_t zygote_deaths = 0;
  std::uint64_t suspicions = 0;  // Deaths noticed before they were proved.
  std::uint64_t take_overs = 0;  // Jobs whose result came from a spare that had taken over.
  std::uint64_t hung = 0;        // Workers killed for the deadline or the heartbeat.
  std::uint64_t rejected = 0;    // Results that came from somebody who did not hold the job.
  std::uint64_t nonsense = 0;    // Workers killed for records that cannot be.
};

// ProbeRecord::worker of the kWorkerDied of a spare, which has no place; its incarnation is 0.
inline constexpr std::uint32_t kSpareWorker = 0xFFFFFFFF;

// One thread uses a Pool, but for interrupt(). The destructor drops what is queued and ends every
// process; they also end when the coordinator, the process that made the pool, does, however.
// What jobs leave running ends with its worker: what they forked is killed as soon as the thread
// that forked it ends, the rest by the worker's zygote.
//
// Deaths are proved, hung jobs killed and spares replaced inside wait(), and in submit() jobs are
// handed out: a coordinator that stays away recovers late, but for what spares take over by
// themselves. Once no job can run any more (no worker is left, too many deaths, no zygote) wait()
// returns the results it still has and then, for ever, the error; in_flight() counts what never
// came back.
//
// wait() fails with kUsage, but not for ever, when it has found for two seconds that nobody is at
// work and no job has room for its output, because the caller holds the frames of results. The jobs
// stay queued, and go on once frames are let go of.
class Pool : public Executor {
 public:
  // wait() for everything that is in flight, at most `timeout`; what came until then, if anything
  // did. It keeps all frames meanwhile: all outputs must have room (PoolOptions::frame_bytes).
  virtual Result<std::vector<JobResult>> drain(std::chrono::milliseconds timeout) = 0;

  // Makes the present wait() or drain() return soon with what has come, or the next one if there is
  // none now. Safe from any thread and from signal handlers.
  virtual void interrupt() = 0;

  virtual PoolStatistics statistics() const = 0;
  // The processes in the places (0: empty now), the spares, and the two zygotes. For tests and
  // benchmarks that kill them.
  virtual std::vector<pid_t> workers() const = 0;
  virtual std::vector<pid_t> spares() const = 0;
  virtual std::vector<pid_t> zygotes() const = 0;
  // Whether deaths are taken over: false without spares, or where the kernel lacks futex_waitv.
  virtual bool takes_over() const = 0;
};

// Forks the zygotes from the calling process, which must be single-threaded now (kUsage otherwise)
// and stays the coordinator; it may start threads afterwards. An empty function and options that
// cannot be are kUsage, too. Returns when all processes are ready;
// if there is room for some of them only, with those, one worker at least, and the others follow.
// Workers inherit every descriptor and mapping that the caller has now, and its memory as it is
// now; what it changes later they do not see.
Result<std::unique_ptr<Pool>> make_worker_pool(const PoolOptions& options, JobFunction function,
                                               Probe probe = {});

}  // namespace crashworthy
