// crashworthy-init: the parts of the program that holds a subject's tree together.
//
// `--launch` makes two processes. The *outer* one, child of the harness, starts the *reaper* (in
// the strongest level: the first process of a pid namespace), which starts the command, reaps
// whatever the tree leaves, and reports each end. Both watch the lifeline, the harness and each
// other:
//   harness ends           -> both see it; either suffices when the other is killed
//   outer killed           -> namespace: the kernel kills the reaper; else the reaper sees it
//   reaper killed          -> namespace: the kernel kills everything; else the outer sees it and
//                             adopts the orphans (it is a subreaper too)
//   one or both stopped    -> the end of the lifeline wakes them (a signal from the kernel)
//   command's tree ends    -> the reaper says so and ends, then the outer
// Whoever sees it ends all of the tree before it ends itself.
//
// `--shim` makes the same two without a namespace, but for a reaper that starts the command when it
// is ordered to, again and again, and does not end with the command's tree.
#pragma once

#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "harness/os/result.h"
#include "harness/os/unique_fd.h"
#include "harness/process/containment.h"
#include "harness/process/protocol.h"

namespace crashworthy {

// Installs a filter that reports each of these system calls of this process and its descendants,
// and sends its listener to `control`. Only own_call() is not reported. Returns 0 or an errno
// value. Nobody of the tree may gain privileges by an exec any more (PR_SET_NO_NEW_PRIVS).
int install_filter(const std::vector<int>& calls, int control);

// A system call of ours under that filter, with at most three arguments: marked in the sixth, which
// the kernel ignores. Reported, it would wait for a listener that nobody has yet, or be taken for
// one of the command's.
inline constexpr int kMarkArgument = 5;
inline constexpr std::uint64_t kOwnCallMark = 0x9d3c5a71e48b26f0;
template <typename First, typename Second, typename Third>
long own_call(long number, First first, Second second, Third third) {
  return ::syscall(number, first, second, third, 0l, 0l, kOwnCallMark);
}

// What is to be executed, ready for use between fork and exec.
struct Command {
  struct Descriptor {
    int source;
    int number;  // In the subject.
  };
  struct Mount {
    const char* source;
    const char* target;
    const char* options;
  };
  pid_t harness = 0;
  std::optional<Containment> forced;
  std::optional<std::uint64_t> core_limit;  // Empty: as inherited.
  bool is_shim = false;                     // Executed when ordered, any number of times.
  std::string bytes;                        // What the pointers below point into.
  const char* directory = nullptr;
  std::vector<const char*> candidates;
  std::vector<char*> argv;  // These two end in a null pointer.
  std::vector<char*> environment;
  std::vector<Descriptor> descriptors;
  int gate = -1;  // Where it waits before its exec, if it is to be held.
  std::vector<Mount> mounts;
  std::vector<int> notified;  // System calls that its filter reports.
};

// Reads the command out of the specification that the harness has written.
Result<Command> read_command(int spec);

// Mounts what the command's tree is to see; this process has mounts of its own. Returns 0 or an
// errno value.
int mount_all(const Command& command);

struct ExecFailure {
  Stage stage = Stage::kExecute;
  std::int32_t error = 0;
};

// Forks and executes the command with `descriptors`. The child writes an ExecFailure to `failure`,
// which closes when the command is executed. `join` is the cgroup.procs to enter, or -1.
Result<pid_t> start_command(const Command& command, std::vector<Command::Descriptor> descriptors,
                            int failure, int join);

// What the reaper is given.
struct ReaperStart {
  const Command* command = nullptr;
  Containment containment = Containment::kPidNamespace;
  std::string reason;
  int outer = -1;  // pidfds
  int harness = -1;
  int cgroup = -1;  // The directory.
  int setup = -1;   // Where the reaper says that it is set up, or why not.
};

// Starts the reaper in `start.containment`; returns its pid. What does not work is told on `setup`.
Result<pid_t> start_reaper(const ReaperStart& start);

// The life of a reaper that is set up.
[[noreturn]] void run_reaper(const ReaperStart& start);
// The same for a shim, until its tree must end.
void run_shim_reaper(const ReaperStart& start);

// What a reaper writes to `setup`: 0, or what refused the namespace.
struct SetupResult {
  std::int32_t error = 0;
};

// The first thing a reaper does in a new pid namespace: own ids, private mounts, a fresh /proc.
// Returns 0 or the errno of what makes the namespace useless; a refused /proc is only a note.
int enter_namespaces(uid_t uid, gid_t gid, bool user_namespace, std::string* note);

// How long to wait between two passes over a tree: longer and longer while nothing changes.
class PassPause {
 public:
  explicit PassPause(int first_ms = 5) : first_ms_(first_ms), ms_(first_ms) {}
  int next_ms() { return std::exchange(ms_, std::min(2 * ms_, kLongestMs)); }
  void shorten() { ms_ = first_ms_; }

 private:
  static constexpr int kLongestMs = 500;  // For what cannot be killed yet (uninterruptible sleep).
  int first_ms_;
  int ms_;
};

// Kills everything below this process, adopted orphans too, and reaps it until none is left; then
// removes the cgroup. For the levels without a namespace.
void end_descendants(int cgroup);

// True when one of `descriptors` (lifeline, pidfds; -1: none) says that its other side has ended.
bool any_ended(std::initializer_list<int> descriptors);

// A signalfd for SIGCHLD, which must be blocked.
UniqueFd make_child_signal();

// Puts /dev/null in the place of descriptors 0, 1 and 2, so that no pipe of the subject stays open.
void let_go_of_output();

int run_outer(bool is_shim);
int run_guard(const char* path);

}  // namespace crashworthy
