// Helpers of the tests of the shim: marked commands, what a shim tells, what is left of its tree.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <vector>

#include "harness/process/process_test_support.h"
#include "harness/process/shim.h"

namespace crashworthy {

// `full` with CRASHWORTHY_LONG, else `usual`.
int restarts(int usual, int full);

// The main process, a child with a child, a daemon of its own session (double fork, so an orphan)
// and its child: five processes that sleep.
inline constexpr const char* kTree =
    "(sleep 1001 & exec sleep 1002) &\n"
    "(setsid sh -c 'sleep 1003 & exec sleep 1004' &) \n"
    "exec sleep 1005";
inline constexpr std::size_t kTreeSize = 5;

// Tries for ever to outrun whoever walks the tree.
inline constexpr const char* kForkStorm =
    "spawn() { while true; do (sleep 0.01 &); done; }; spawn & spawn & spawn & wait";

// What a shim tells, one event at a time.
class Told {
 public:
  explicit Told(Shim* shim) : shim_(shim) {}

  // The next event; kLost and a failure of the test when none comes within 10 s.
  ShimEvent next();
  // The same, and it should be of that kind.
  ShimEvent next(ShimEvent::Kind kind);
  bool nothing_for(std::chrono::milliseconds time);
  // The status of the incarnation, which ends now and leaves nothing.
  WaitStatus end();

 private:
  Shim* shim_;
  std::vector<ShimEvent> waiting_;
  bool lost_ = false;
};

class ShimTest : public ProcessTest {
 protected:
  using Kind = ShimEvent::Kind;

  // Marked commands in our directory.
  ShimSpec command(std::vector<std::string> argv) const;
  ShimSpec script(const std::string& text) const { return command({"sh", "-c", text}); }

  std::filesystem::path file(const std::string& name) const { return directory_ / name; }
  // 0 when there is no such file.
  std::uintmax_t size_of(const std::string& name) const;

  // Our marked processes but for the two of each shim.
  std::vector<pid_t> tree() const;
  // Waits until all of kTree sleeps.
  bool tree_is_whole() const;
  static long open_descriptors(pid_t pid);
  static long zombies_below(pid_t parent);
};

}  // namespace crashworthy
