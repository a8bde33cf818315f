// SupervisionTree: a supervision tree over real processes, for use inside a program.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "harness/os/result.h"
#include "harness/supervision/event.h"
#include "harness/supervision/spec.h"
#include "harness/supervision/tree_logic.h"

namespace crashworthy {

struct TreeOptions {
  EventSink sink;          // Called on the thread that uses the tree; may be empty.
  std::uint64_t seed = 0;  // Of the jitter.
};

// Owns the processes of a tree. Each child stands behind a shim of its own
// (harness/process/shim.h), so the destructor, and the end of this process however it comes about,
// leave nothing of any child's tree. The destructor kills, and waits until nothing is left: usually
// milliseconds, and at most 10 s for each child in whose tree a process is stuck in the kernel,
// which is then left to the kernel. shutdown() asks first.
//
// Everything happens inside the calls below: a tree that nobody runs restarts nothing. One thread
// uses a tree; several trees in one process are independent. Orders return when they are carried
// out, refused (Answer::refusal), or when `bound` has passed (kTimeout: they may still be carried
// out); meanwhile the tree runs. The orders and questions themselves are those of TreeLogic.
//
// What starts a child for the first time makes its shim meanwhile, which is usually about 1 ms, and
// at most 10 s on a machine that is starved: no bound given to a call counts that.
class SupervisionTree {
 public:
  // Checks `spec`, looks for every program (kUsage with its place, before anything is started) and
  // starts the children in order. Returns when all have been started and are ready. When one cannot
  // be, those before it are stopped again, in reverse order, and the error says which and why. This
  // waits without a bound of its own: those are in the time-outs of `spec` (of readiness, and of
  // the stops of a roll-back). The tree may have ended by itself when it is returned.
  static Result<SupervisionTree> start(SupervisorSpec spec, TreeOptions options = {});

  // The same without waiting for the children: run() starts them.
  static Result<SupervisionTree> create(SupervisorSpec spec, TreeOptions options = {});

  SupervisionTree(SupervisionTree&& other) noexcept;
  SupervisionTree& operator=(SupervisionTree&& other) noexcept;
  ~SupervisionTree();

  // Readable when run() has something to do before timeout() has passed: for a user's event loop.
  int event_fd() const;
  // Until the next moment at which run() must be called; empty: no such moment.
  std::optional<std::chrono::nanoseconds> timeout() const;
  // Does what there is to do; waits for it for at most `bound`. Fails when the tree can no longer
  // be run (the kernel refuses a wait); it should be destroyed then.
  Result<void> run(std::chrono::nanoseconds bound);
  // Runs until the tree has ended, or `bound` has passed (kTimeout).
  Result<TreeEnd> run_until_end(std::chrono::nanoseconds bound);

  // Orders, with the meaning of TreeLogic's. start_child() refuses (kInvalid) a function that
  // nobody has registered, and a nested supervisor one of whose programs is not there; a command
  // that cannot be executed is a start that fails.
  Result<Answer> start_child(const std::string& supervisor, ChildSpec spec,
                             std::chrono::nanoseconds bound);
  Result<Answer> restart_child(const std::string& path, std::chrono::nanoseconds bound);
  Result<Answer> stop_child(const std::string& path, std::chrono::nanoseconds bound);
  Result<Answer> delete_child(const std::string& path, std::chrono::nanoseconds bound);
  Result<Answer> suspend(const std::string& path, std::chrono::nanoseconds bound);
  Result<Answer> resume(const std::string& path, std::chrono::nanoseconds bound);
  // Begin to stop, or to kill, everything; run_until_end() waits for it.
  void shutdown();
  void kill();

  // Questions, and orders whose replies come later, inside run(): straight to the logic. Such an
  // order changes timeout() and does not make event_fd() readable: ask for timeout() again, or call
  // run(), before waiting.
  TreeLogic& logic();
  const TreeLogic& logic() const;

  // Those of the shims' processes that are children of this process: a program that reaps
  // strangers, as the first process of a pid namespace must, leaves these to the tree.
  std::vector<pid_t> own_pids() const;

 private:
  struct State;
  explicit SupervisionTree(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace crashworthy
