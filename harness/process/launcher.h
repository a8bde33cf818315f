// Starting a subject so that nothing of it survives, whatever dies.
//
// The command runs under crashworthy-init, which reaps everything, reports how each process ended
// and ends all of it when the harness is gone, however that came about (see init.h).
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "harness/os/result.h"
#include "harness/os/unique_fd.h"
#include "harness/os/wait_status.h"
#include "harness/process/containment.h"

namespace crashworthy {

// What to start. The command gets a session of its own, default signal dispositions, an empty
// signal mask, and no descriptors but those listed here.
struct LaunchSpec {
  // argv[0] is looked up in the PATH of `environment` as a shell would, and passed as written.
  std::vector<std::string> argv;
  // The whole environment, "NAME=value".
  std::vector<std::string> environment;
  // The working directory; empty: ours.
  std::filesystem::path directory;
  // (Our descriptor, its number in the subject), borrowed for the call. Without these the subject
  // has 0 = /dev/null and 1 and 2 as below; a number listed here takes precedence, 0 to 2 too.
  std::vector<std::pair<int, int>> descriptors;
  // Created or appended to; empty: /dev/null.
  std::filesystem::path stdout_file;
  std::filesystem::path stderr_file;
  // The subject writes to our own stdout and stderr where no file is named.
  bool passthrough_output = false;
  // Forces a level; empty: what CRASHWORTHY_CONTAINMENT names, else the best that works here.
  std::optional<Containment> containment;
  // What the tree sees at other places than we do, in this order; needs the level pid_namespace.
  struct Mount {
    std::string source;            // A file or directory of ours, or "tmpfs".
    std::filesystem::path target;  // Exists, and is absolute.
    std::string options;           // Of a tmpfs: "size=1048576".
  };
  std::vector<Mount> mounts;
  // Called with our pid of the command's process, which is there but has executed nothing yet, and
  // does not go on before this returns. An error ends the launch.
  std::function<Result<void>(pid_t)> before_exec;
  // Numbers of system calls (at most 250) that the kernel reports, of the whole tree, from the exec
  // on, which is not among them; and who gets the listener (seccomp_unotify(2)). Each of these
  // calls waits for its answer: serve it in a thread of its own. When nobody holds the listener any
  // more, they fail with ENOSYS. The tree cannot gain privileges by set-user-ID programs then.
  std::vector<int> notified_calls;
  std::function<void(UniqueFd)> on_listener;
  // RLIMIT_CORE of the subject, soft and hard; empty: as ours.
  std::optional<std::uint64_t> core_limit = 0;
};

struct Report {
  enum class Kind {
    kMainEnded,        // The command's own process.
    kDescendantEnded,  // An orphan of the tree, adopted and reaped.
    kChildless,        // The tree is empty. Nothing follows.
    kGuardLost         // crashworthy-init was killed by others; how the tree ended is unknown
                       // (exit_status_from_kernel(main_pidfd()) may know). Nothing follows.
  };
  Kind kind = Kind::kChildless;
  pid_t pid = 0;       // As the subject sees it.
  pid_t host_pid = 0;  // As we see it; 0 where the kernel did not tell.
  WaitStatus status;
  std::int64_t time_ns = 0;  // CLOCK_MONOTONIC, when crashworthy-init learned of the end.
};

// Why the tree of a command that is launched as usual would see no mounts of its own; empty: it
// would. Found out once, by launching one. Safe from any thread.
const std::string& why_no_mounts();

// Owns the whole tree of a command.
//
// The destructor kills all of it and waits (at most 10 s) until it is gone. The tree also ends when
// the process that launched it ends in any way; threads of that process may come and go. Not
// thread-safe: one thread at a time uses a Subject. Several Subjects may be launched concurrently.
class Subject {
 public:
  // Starts the command and returns once it has been executed. Nothing is left running on failure:
  // kUsage, with the errno of execve(2), when it cannot be executed or `spec` makes no sense;
  // kMissing when a forced level does not work here; kTimeout when the start takes over 10 s.
  static Result<Subject> launch(const LaunchSpec& spec);

  Subject(Subject&& other) noexcept;
  Subject& operator=(Subject&& other) noexcept;
  ~Subject();

  // Our pid of the command's own process, and a pidfd of it that stays ours.
  pid_t main_pid() const;
  int main_pidfd() const;

  // The level in force, and why it is not a better one ("pid namespace refused: Operation not
  // permitted"); empty for the best.
  Containment containment() const;
  const std::string& containment_reason() const;

  // Readable when read_reports() has something. Stop watching it after kChildless or kGuardLost: it
  // then stays readable.
  int report_fd() const;
  // What has been reported since the last call; empty when nothing was. Never blocks. Ends that
  // kill_tree() itself causes may go unreported; kChildless follows all the same. Reports wait in a
  // socket: while nobody reads some hundreds of them, ended processes stay zombies.
  Result<std::vector<Report>> read_reports();

  // Our pids of all live processes of the tree, the main one first. A snapshot.
  std::vector<pid_t> descendants() const;
  // A pidfd of the process that the subject knows as `pid_in_subject`. kGone when there is none.
  Result<UniqueFd> open_process(pid_t pid_in_subject) const;

  // Ends everything, now. Does not wait.
  void kill_tree();
  // Waits until no process of the tree and none of crashworthy-init is left. False when `bound`
  // passes first.
  bool wait_until_gone(std::chrono::milliseconds bound);

 private:
  struct State;
  explicit Subject(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace crashworthy
