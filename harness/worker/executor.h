// Executor: runs jobs somewhere else than the caller, and says what became of each. The same
// pipeline runs on threads (`bare`), on isolated processes without restart (`processes`) and on
// supervised ones (`supervised`).
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "harness/os/result.h"
#include "harness/os/wait_status.h"
#include "harness/probe/probe.h"
#include "harness/worker/frame.h"

namespace crashworthy {

// A unit of work. What it does is the job function's affair; big data lies in frames.
struct Job {
  std::uint64_t item = kNoItem;  // The item it belongs to, for leases, poison and the probe.
  std::uint32_t part = 0;        // Unit of work within the item.
  std::string arguments;         // At most kMaxPayload bytes; what is larger goes into frames.
  // The size of the frame that the job may fill, at most PoolOptions::output_bytes (of threads: at
  // most their frame_bytes); 0: none.
  std::size_t output_bytes = 0;
  // Kept alive until the job has its outcome. The job knows them by the FrameRefs in its arguments.
  std::vector<Frame> inputs;
  // How long its own execution may take before it is killed as hung; waiting does not count. 0:
  // what PoolOptions::deadline says. Threads cannot be killed: there it is of no effect.
  std::chrono::nanoseconds deadline{0};
};

inline constexpr std::size_t kMaxPayload = std::size_t{16} * 1024;

// What a job function returns: output bytes (at most kMaxPayload), or a failure that is the item's
// own fault.
struct JobOutput {
  std::string bytes;
  std::optional<FailureReason> failure;  // A number that is none of these is nonsense.
  // One line for people, when `failure` is set or the job is kLost; cut after 1024 bytes.
  std::string message;
  // How much of JobContext::output is filled, from its beginning. More than its size is a bug of
  // the job: it fails, as kTooLarge.
  std::size_t frame_bytes = 0;
};

// Who executes a job, and with what; handed to the job function.
class JobContext {
 public:
  ProbeIdentity who;
  std::uint32_t attempt = 1;
  // The frame to be filled, of Job::output_bytes bytes; what was in it before is garbage. Only
  // during the execution: before its next job begins (with PoolOptions::batch: before it tells of
  // the result), the worker loses the right to write there.
  std::span<std::byte> output;
  const FrameArena* frames = nullptr;
  std::atomic<std::uint64_t>* heartbeats = nullptr;

  // The bytes of a frame that somebody else filled. Read-only: in a worker, a write ends it by
  // SIGSEGV.
  std::span<const std::byte> frame(const FrameRef& ref) const { return frames->view(ref); }
  // Tells that the job is getting on: see PoolOptions::heartbeat.
  void heartbeat() const {
    if (heartbeats != nullptr) heartbeats->fetch_add(1, std::memory_order_relaxed);
  }
};

// Known before the workers exist: a closure made later would not exist in a forked worker. In a
// pool each worker has its own copy of what it captures, or reaches by references, as that was when
// the worker was forked: what a job changes there the caller and other workers never see, and it
// dies with the worker. Results travel in JobOutput and frames.
//
// What it throws fails the job, as kThrew with the text of what(), and the worker goes on. Where an
// exception says that its process must not go on (out of memory), declare the function noexcept:
// then it is a crash like any other. exit() in a job is a crash, too.
using JobFunction = std::function<JobOutput(const Job&, const JobContext&)>;

enum class JobOutcome {
  kDone,      // `output.bytes` is the result.
  kFailed,    // The item's own fault: `output.failure`.
  kPoisoned,  // It killed its worker too often: quarantined. `output.failure` is kPoison.
  kLost       // Its worker died and nobody does it again; `output.message` says how.
};

struct JobResult {
  Job job;
  JobOutcome outcome = JobOutcome::kDone;
  JobOutput output;
  std::uint32_t attempts = 1;
  Frame frame;               // Of JobOutput::frame_bytes bytes; empty when that is 0.
  std::uint64_t number = 0;  // What submit() returned.
  // How the last worker ended that died of it, for a job that was closed because of that.
  std::optional<WaitStatus> death;
};

class Executor {
 public:
  virtual ~Executor() = default;
  // A frame for the caller to fill and to give to jobs as an input. Empty when there is no room
  // until others are given back.
  virtual Frame allocate_frame(std::size_t bytes) = 0;
  // Whether submit() takes this job. kUsage, with the sizes, the bound and what to do, if its
  // arguments or its output are too large, or its deadline is negative. map() and stream() ask.
  virtual Result<void> check(const Job& job) const = 0;
  // Queues a job and returns its number: how many were queued before. The caller bounds what is in
  // flight; nothing is dropped. A job that check() refuses is a bug of the caller: the program
  // stops.
  virtual std::uint64_t submit(Job job) = 0;
  // Waits at most `timeout` for results; an empty vector when none came. Fails when nothing can run
  // jobs any more.
  virtual Result<std::vector<JobResult>> wait(std::chrono::milliseconds timeout) = 0;
  // Why no job runs any more: what wait() fails with, for ever, behind the last results. Threads go
  // on as long as the process does.
  virtual std::optional<Error> failure() const { return std::nullopt; }
  // Jobs submitted and not yet returned by wait().
  virtual std::size_t in_flight() const = 0;
  // How many jobs its workers take at a time. With fewer in flight some of them idle.
  virtual std::size_t demand() const = 0;
};

// `threads` threads of this process. A crash of the job function is a crash of the caller: nothing
// is protected. Frames come from two regions of `frame_bytes` each, inputs and outputs; a job waits
// until there is room for its output. An empty function is a bug: the program stops.
std::unique_ptr<Executor> make_thread_executor(int threads, JobFunction function, Probe probe = {},
                                               std::size_t frame_bytes = 0);

}  // namespace crashworthy
