// A shim: what stands between a supervisor and one of its children, so that the child's tree can be
// started any number of times, ended whole, stopped and continued, and never outlives us.
//
// The shim is two processes of crashworthy-init that guard each other (init.h), without any
// namespace: the child keeps its pids, ids and mounts. The inner one adopts every orphan below the
// child, so nothing leaves the tree by becoming a daemon.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "harness/os/result.h"
#include "harness/os/unique_fd.h"
#include "harness/os/wait_status.h"

namespace crashworthy {

// What every incarnation of the command has in common. Each gets a session of its own, default
// signal dispositions, an empty signal mask, our resource limits, 0 = /dev/null, our own stdout and
// stderr (or the files named here), and no other descriptors but those given to start(). stdout and
// stderr are those of create(): the shim keeps them open for later incarnations.
struct ShimSpec {
  // The file to execute; empty: argv[0] is looked up in the PATH of `environment`, as a shell
  // would.
  std::filesystem::path program;
  // Passed as written.
  std::vector<std::string> argv;
  // The whole environment, "NAME=value".
  std::vector<std::string> environment;
  // The working directory; empty: ours.
  std::filesystem::path directory;
  // Created or appended to; empty: our own.
  std::filesystem::path stdout_file;
  std::filesystem::path stderr_file;
};

// In each incarnation kStarted or kStartFailed comes first, and kEmpty last.
struct ShimEvent {
  enum class Kind {
    kStarted,        // Executed. `pid`, `pidfd`.
    kStartFailed,    // Not executed; `error` says why. The tree is empty.
    kEnded,          // The command's own process ended with `status`. What it left is being killed,
                     // unless stop() was called: then it may still end by itself.
    kEmpty,          // After kEnded: no process of this incarnation is left. start() may be called.
                     // In the same read_events() as kEnded when the command left nothing.
    kSuspended,      // Every process of the tree is stopped.
    kSuspendFailed,  // Within 10 s not every process could be stopped (one sleeps uninterruptibly).
                     // All of them have been continued.
    kResumed,        // Every process of the tree has been continued.
    kLost            // The shim itself was killed by others; its tree is being killed. Nothing
                     // follows, and nothing more can be asked of it.
  };
  Kind kind = Kind::kLost;
  std::int64_t time_ns = 0;  // CLOCK_MONOTONIC, when the shim saw it (kLost: when we did).
  pid_t pid = 0;             // kStarted, kEnded: of the command's own process.
  UniqueFd pidfd;            // kStarted; not valid when we can hold no more descriptors.
  WaitStatus status;         // kEnded
  Error error;               // kStartFailed
};

// Owns the shim and, through it, the tree of the current incarnation. Holds three descriptors.
//
// The destructor kills the tree and waits (at most 10 s) until it is gone. So does the end of the
// process that made the shim, however it comes about; its threads may come and go. Orders are
// carried out in their order, in the background; what becomes of them is told by read_events().
// Those for which there is nothing to do (no tree, or one that is being killed) are not told of.
// Some hundreds of events wait for being read; who then goes on ordering for over a second loses
// the shim.
// Not thread-safe: one thread at a time uses a Shim; several Shims are independent.
class Shim {
 public:
  // Starts the shim's own processes and returns when they are set up; executes no command yet.
  // kUsage when `spec` makes no sense or its program cannot be found or may not be executed;
  // kTimeout after 10 s. Nothing is left behind on failure.
  static Result<Shim> create(const ShimSpec& spec);

  Shim(Shim&& other) noexcept;
  Shim& operator=(Shim&& other) noexcept;
  ~Shim();

  // Readable when read_events() has something. Stop watching it after kLost: it then stays
  // readable.
  int event_fd() const;
  // What has happened since the last call, in order; empty when nothing has. Never blocks.
  Result<std::vector<ShimEvent>> read_events();

  // Executes the command: kStarted or kStartFailed follows. `descriptors` are (ours, number in the
  // child), the numbers at least 3, at most 253 of them, borrowed for the call. Nothing may be left
  // of an earlier incarnation, and its kEmpty must have been read (kUsage). kGone when the shim is
  // lost.
  Result<void> start(const std::vector<std::pair<int, int>>& descriptors);

  // Asks the tree to end: `signal` (SIGTERM), then SIGCONT, to each of its processes. Once the
  // command's own process has ended, orphans that this missed, because they were forked at that
  // moment, are asked as well. What a living process starts after it was asked is left to it.
  // kEnded and kEmpty follow when all obey.
  void stop(int signal);
  // SIGKILL to all of the tree, again and again until none is left: kEnded and kEmpty follow. Works
  // on a shim that somebody has stopped, too.
  void kill();
  // SIGSTOP to all of the tree, again until all of it is stopped: kSuspended or, at most 10 s
  // later, kSuspendFailed follows. Neither does when the tree ends before, or resume(), stop() or
  // kill() is called before: the suspension is then given up, and what follows is the answer to
  // that order (kResumed to resume()). Several calls in that time have one answer.
  void suspend();
  // SIGCONT to all of the tree: kResumed follows.
  void resume();

  // The pids of the shim's own processes, the outer first: for tests that kill them.
  std::vector<pid_t> own_pids() const;

 private:
  struct State;
  explicit Shim(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace crashworthy
