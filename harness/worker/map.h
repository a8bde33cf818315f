// map() and stream(): many jobs through an Executor, with a bounded number in flight, and, with a
// ledger, once and for all although the run is killed and started anew.
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <vector>

#include "harness/os/result.h"
#include "harness/worker/executor.h"
#include "harness/worker/persistent_ledger.h"

namespace crashworthy {

struct MapOptions {
  // Jobs that are taken from their source and whose results the sink does not have yet, at most:
  // those at work, those that wait for a worker, and results that wait for their turn. So many
  // input and output frames must have room. 0: twice Executor::demand().
  std::size_t in_flight = 0;
  // For stream(). false: the sink has each result as it comes.
  bool ordered = true;
  // Every result but kLost is committed here, under the item and part of its job, as soon as it
  // comes and before anybody sees it. Jobs that are committed already are not executed again.
  //
  // Open it after the pool is made (kUsage otherwise): workers that inherit it would hold its lock
  // when this process is long dead. The ledger keeps bytes, no frames: with it, a job of
  // output_bytes other than 0 is refused (kUsage).
  PersistentLedger* ledger = nullptr;
};

// Executes the jobs and returns their results in the order of the jobs.
//
// With a ledger the jobs' items and parts must tell them apart (kUsage, before anything runs).
// Those committed already come back with their stored result and 0 attempts; all is synced to the
// disk on return, if the ledger's Sync is not kNone.
//
// A job that Executor::check() refuses is kUsage, before anything runs. Else it fails as stream()
// does, whose sink is the way to have the results until then. All results are kept until the last
// one, with their frames: their outputs must have room in the pool (PoolOptions::frame_bytes), or
// it fails with kUsage. Use stream() for more.
//
// One thread uses the executor meanwhile, this one; nothing may be in flight in it before (kUsage),
// and nothing is afterwards, unless the executor itself has failed.
Result<std::vector<JobResult>> map(Executor& executor, std::vector<Job> jobs,
                                   const MapOptions& options = {});

// Gives the next job, or nothing when there is none left; from then on it is not asked any more.
// Called when there is room for one more job, in the thread of stream(). Frames that it takes from
// the executor are there again when results, which hold their jobs' inputs, are let go of.
using JobSource = std::function<Result<std::optional<Job>>()>;

// Owns the result now. While it works no new job is given out: it is the place for the quick part.
using ResultSink = std::function<Result<void>(JobResult)>;

// The same for more jobs than fit into memory: asks `source` for jobs, gives `sink` their results,
// in the order of the jobs or as they come. Neither may throw, or use the executor but for frames.
//
// With a ledger, jobs committed already are skipped: the sink sees only what is new, and the ledger
// has it all (see stored_result()). Should the run be killed or fail, a result may be committed
// that the sink has never seen. A (item, part) that comes twice is refused (kUsage) or skipped.
//
// Fails with
// - the error of `source`, or that of Executor::check() for a job of its: the sink has the results
//   of all jobs before it;
// - the error of `sink`, or of a commit: the sink gets nothing any more, results that
//   still come are dropped and not committed, nor is the one whose commit failed;
// - the error of the executor (kGone: no job runs any more; kUsage: none of a pool's has room for
//   its output, since the frames of results, as those that wait for their turn, are held): the
//   sink, and the ledger, have what came until then; what was in flight has no result and is not
//   committed. The message has the numbers. Every later call fails with kGone, too; after such a
//   kUsage wait() gives the results of what is still in flight, once frames are let go of.
Result<void> stream(Executor& executor, const JobSource& source, const ResultSink& sink,
                    const MapOptions& options = {});

// What map() and stream() have committed: a result with item and part of its job, outcome, output
// bytes, failure and message, 0 attempts. kCorrupt when the record is not of their making.
//
// Such a record's `outcome` is the JobOutcome + 256 times the FailureReason; its `bytes` are those
// of the output, and behind the outcomes other than kDone the message, a NUL, and those.
Result<JobResult> stored_result(const PersistentLedger::Record& record);

}  // namespace crashworthy
