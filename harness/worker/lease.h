// Lease: what a worker executes now, told in memory that outlives it.
//
// The worker writes, right before and right after executing; the coordinator reads, mostly after
// the worker's death. It is a claim of the worker, never a proof of delivery: the ledger decides
// that.
#pragma once

#include <atomic>
#include <cstdint>

#include "harness/worker/job_key.h"

namespace crashworthy {

struct LeaseView {
  bool begun = false;      // The worker began to execute `key`...
  bool executing = false;  // ...and has not finished it.
  JobKey key;
  std::uint32_t incarnation = 0;
  std::uint32_t attempt = 0;
  std::int64_t started_ns = 0;
};

// Lives in shared memory. One process writes, another reads; both may do so at any time.
class Lease {
 public:
  void begin(const JobKey& key, std::uint32_t incarnation, std::uint32_t attempt,
             std::int64_t now_ns);
  void finish();
  // Exact once the writer is dead. While it lives the fields may belong to two different jobs, so
  // only `executing` and `started_ns` are of use then, as a hint to look again.
  LeaseView read() const;

 private:
  enum State : std::uint32_t { kIdle = 0, kExecuting, kFinished };
  std::atomic<std::uint32_t> state_{kIdle};
  std::atomic<std::uint32_t> part_{0};
  std::atomic<std::uint64_t> item_{0};
  std::atomic<std::uint32_t> incarnation_{0};
  std::atomic<std::uint32_t> attempt_{0};
  std::atomic<std::int64_t> started_ns_{0};
};
static_assert(std::atomic<std::uint64_t>::is_always_lock_free, "shared between processes");

}  // namespace crashworthy
