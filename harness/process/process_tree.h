// What /proc says of a tree of processes. Everything here is a snapshot: a process may end, fork or
// change its parent while it is read.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <initializer_list>
#include <optional>
#include <string>
#include <vector>

namespace crashworthy {

// No walk goes on beyond so many processes.
inline constexpr std::size_t kMaxTreeProcesses = 32768;

struct ProcessState {
  pid_t parent = 0;
  bool live = false;  // false: a zombie, all threads of which have ended.
};
// Empty when there is no such process.
std::optional<ProcessState> read_process_state(pid_t pid);

struct TreeProcess {
  pid_t pid = 0;
  pid_t parent = 0;
};
// The live processes below `root`, parents first; `root` itself is not among them.
std::vector<TreeProcess> descendants_of(pid_t root);

// The pids of `pid` from our pid namespace inwards (NSpid of /proc/PID/status); empty when gone.
std::vector<pid_t> namespace_pids(pid_t pid);

// The pid, as we see it, behind a pidfd; empty when the process was reaped or is not in sight.
std::optional<pid_t> pid_of_pidfd(int pidfd);

// True when all threads of `pid` that have not ended are stopped, by a signal or a tracer.
bool all_threads_stopped(pid_t pid);

// Sends `signals`, in order, to a process found below `root`, never to a stranger that took over
// its pid.
void signal_process(const TreeProcess& process, pid_t root, std::initializer_list<int> signals);

// The same to every process below `root`. One pass: who forks at that moment needs another.
void signal_descendants(pid_t root, std::initializer_list<int> signals);

}  // namespace crashworthy
