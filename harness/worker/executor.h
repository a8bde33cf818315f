// Executor: runs jobs somewhere else than the caller, and says what became of each. The same
// pipeline runs on threads (`bare`), on isolated processes without restart (`processes`) and on
// supervised ones (`supervised`).
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "harness/os/result.h"
#include "harness/probe/probe.h"

namespace crashworthy {

// A unit of work. What it does is the job function's affair; big data lies in shared memory that
// the arguments name.
struct Job {
  std::uint64_t item = kNoItem;  // The item it belongs to, for leases, poison and the probe.
  std::uint32_t part =
      0;  // Unit of work within the item; (item, part) names a job among those in flight.
  std::string arguments;  // At most kMaxPayload bytes.
};

inline constexpr std::size_t kMaxPayload = std::size_t{16} * 1024;

// What a job function returns: output bytes (at most kMaxPayload), or a failure that is the item's
// own fault.
struct JobOutput {
  std::string bytes;
  std::optional<FailureReason> failure;
  std::string message;  // One line for people, when `failure` is set.
};

// Who executes a job; handed to the job function so that it can tell the probe more.
struct JobContext {
  ProbeIdentity who;
  std::uint32_t attempt = 1;
};

// Known before the workers exist: a closure made later would not exist in a forked worker. It must
// not throw for a fault of the input (return `failure` instead); an exception that leaves it ends
// the process, as any other crash.
using JobFunction = std::function<JobOutput(const Job&, const JobContext&)>;

enum class JobOutcome {
  kDone,      // `output.bytes` is the result.
  kFailed,    // The item's own fault: `output.failure`.
  kPoisoned,  // It killed its worker too often: quarantined. `output.failure` is kPoison.
  kLost       // Its worker died and nobody does it again.
};

struct JobResult {
  Job job;
  JobOutcome outcome = JobOutcome::kDone;
  JobOutput output;
  std::uint32_t attempts = 1;
};

class Executor {
 public:
  virtual ~Executor() = default;
  // Queues a job. The caller bounds what is in flight; nothing is dropped.
  virtual void submit(Job job) = 0;
  // Waits at most `timeout` for results; an empty vector when none came. Fails when nothing can run
  // jobs any more.
  virtual Result<std::vector<JobResult>> wait(std::chrono::milliseconds timeout) = 0;
  // Jobs submitted and not yet returned by wait().
  virtual std::size_t in_flight() const = 0;
};

// `threads` threads of this process. A crash of the job function is a crash of the caller: nothing
// is protected.
std::unique_ptr<Executor> make_thread_executor(int threads, JobFunction function, Probe probe);

}  // namespace crashworthy
