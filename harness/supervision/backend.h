// What a tree's logic asks of processes. The logic knows nothing else of them, so it is the same
// over real processes, over a pool's workers, and over the fakes of unit tests.
#pragma once

#include <cstdint>

#include "harness/supervision/spec.h"

namespace crashworthy {

// One process: an incarnation of a child. Never used again for another.
struct ProcessKey {
  std::uint64_t child = 0;        // Unique in its tree, over its whole life.
  std::uint32_t incarnation = 0;  // 1, 2, ...
  friend auto operator<=>(const ProcessKey&, const ProcessKey&) = default;
};

// The answers are calls of TreeLogic::on_...(), never from within one of these calls.
class Backend {
 public:
  virtual ~Backend() = default;

  // Starts the process: on_started or on_start_failed follows. `spec` stays valid until forget().
  virtual void start(ProcessKey key, const std::string& path, const ChildSpec& spec) = 0;
  // Asks all of its tree to end; a suspended tree is continued. on_ended follows if it obeys.
  virtual void stop(ProcessKey key) = 0;
  // Kills all of its tree: on_ended follows.
  virtual void kill(ProcessKey key) = 0;
  // Stops, or continues, all of its tree. on_suspended or on_suspend_failed follows unless another
  // order comes before that; on_resumed follows. Unless it ends.
  virtual void suspend(ProcessKey key) = 0;
  virtual void resume(ProcessKey key) = 0;
  // The child is deleted: nothing more will be asked for any of its incarnations. None runs, unless
  // the whole tree is being destroyed; then it is killed.
  virtual void forget(std::uint64_t child) = 0;
};

}  // namespace crashworthy
