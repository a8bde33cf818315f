// Isolated calls: one native function, called from any thread, executed in another process. If it
// crashes or hangs, that call fails with an Error, and nothing else happens to the caller.
//
//   IsolatedFunctions table;
//   table.add("size_of", [](std::string_view path) {   // "640 480", of whatever is in that file.
//     const cv::Mat image = cv::imread(std::string(path));
//     return std::to_string(image.cols) + " " + std::to_string(image.rows);
//   });
//   auto isolation = Isolation::start(table, {});      // Before the first thread is started.
//   ...
//   Result<std::string> size = (*isolation)->run("size_of", path, 2s);
//
// A call carries at most 16 KiB (Isolation::kMaxBytes), and so does its result: names, headers,
// numbers, no images. What is larger goes by a file's name, or through a pool, whose frames are of
// any size (pool.h).
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "harness/os/result.h"
#include "harness/worker/executor.h"
#include "harness/worker/forked.h"

namespace crashworthy {

class Pool;

// Runs in a worker process, on a copy of the call's bytes. An Error that it returns is the call's
// result, as it is (of message and hint the first 4 KiB each); so is what it throws, as kCorrupt,
// or kSystem with ENOMEM for std::bad_alloc. It should keep no state that matters: which process
// executes a call is chance, and a crash takes that process's memory with it.
using IsolatedFunction = std::function<Result<std::string>(std::string_view)>;

// The functions by name, known before there is any worker. Plain data.
class IsolatedFunctions {
 public:
  // A second one of the same name is a bug (the program stops).
  void add(std::string name, IsolatedFunction function);

 private:
  friend class Isolation;
  struct Entry {
    std::string name;
    IsolatedFunction function;
  };
  std::vector<Entry> entries_;
};

struct IsolationOptions {
  int workers = 2;  // So many calls are executed at the same time; others wait for their turn.
  int spares = 1;   // Warm processes, one of which replaces a dead worker at once.
  // For calls that give none. 0: none.
  std::chrono::nanoseconds deadline = std::chrono::seconds(30);
  // More than `intensity` deaths of workers within `period` that were no call's own making end the
  // isolation: every later call fails. What calls crash, exit or hang costs them alone, as often as
  // it happens.
  int intensity = 1000;
  std::chrono::nanoseconds period = std::chrono::seconds(10);
};

// Any thread may call run(), several at once. No thread is started: of the threads that wait for
// their results, one looks after the workers for all of them.
class Isolation {
 public:
  // Of a call's bytes, and of its result.
  static constexpr std::size_t kMaxBytes = kMaxPayload;

  // Forks the workers from the calling process, which must be single-threaded now (kUsage
  // otherwise); they have its memory and its descriptors as they are now. Returns when they are
  // ready. They end with the Isolation, or with this process, however that ends.
  static Result<std::unique_ptr<Isolation>> start(IsolatedFunctions functions,
                                                  const IsolationOptions& options);

  // Calls that still wait in other threads fail with kGone; once they have returned, all processes
  // are ended. To begin a call now is a bug.
  ~Isolation();
  Isolation(const Isolation&) = delete;
  Isolation& operator=(const Isolation&) = delete;

  // Executes the function `name` on `bytes` in a worker and waits for its result. `deadline` bounds
  // the execution, from its begin: waiting for a worker does not count. 0: that of the options.
  //
  // A call is begun at most once: whatever becomes of it, it is not executed again. Fails with
  // - kUsage: no function has this name (the message has the known ones), `bytes` or the result are
  //   longer than kMaxBytes, the deadline is negative;
  // - kGone: the function took its process with it: "'decode' died of SIGABRT"; or the isolation is
  //   at an end (too many workers killed, both of its zygotes killed): then every call fails alike,
  //   at once;
  // - kTimeout: it was killed at its deadline, which the message states;
  // - what the function returned or threw.
  Result<std::string> run(std::string_view name, std::string_view bytes,
                          std::chrono::nanoseconds deadline = {});

 private:
  struct Call;
  Isolation(std::vector<std::string> names, std::unique_ptr<Pool> pool);
  // With mutex_ held; look_after() lets go of it while it waits.
  void look_after(std::unique_lock<std::mutex>& lock, const Call& own);
  void hand_on();
  void settle(const JobResult& result);
  void end(const Error& error);

  const Owner owner_;
  const std::vector<std::string> names_;
  std::mutex mutex_;                      // Guards all below; the pool is the leader's alone.
  std::condition_variable returned_;      // A call, while the destructor waits.
  std::map<std::uint64_t, Call*> calls_;  // Without a result yet, by the item of its job.
  std::vector<Job> queued_;               // To be submitted by the leader.
  std::uint64_t next_ = 0;
  std::size_t callers_ = 0;  // Threads in run().
  bool led_ = false;         // One of them looks after the pool.
  std::optional<Error> failure_;
  const std::unique_ptr<Pool> pool_;
};

}  // namespace crashworthy
