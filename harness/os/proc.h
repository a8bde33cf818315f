// What /proc says of one process or thread at this moment. It may end, and its number be another's,
// while it is read.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace crashworthy {

// The numbers that are names in a directory of /proc: of processes, threads or descriptors.
std::vector<pid_t> numbers_in(const std::string& directory);

// The words of the line "NAME:\tWORDS" of /proc/PID/status; empty: no such line, or nobody.
std::string status_field(pid_t pid, const std::string& name);

struct ProcessStat {
  std::string name;  // Of its program, as far as the kernel keeps it (15 bytes).
  char state = 0;    // A letter, see proc(5).
  pid_t parent = 0;
  std::int64_t cpu_ticks = 0;    // Of all its threads, in user and system mode.
  std::size_t threads = 0;       // That have not been reaped.
  std::uint64_t start_time = 0;  // In clock ticks since the boot.
};
// Empty when there is nobody. `task`: of that thread alone.
std::optional<ProcessStat> read_stat(pid_t pid, pid_t task = 0);

// The states of those threads of `pid` that have not ended, a letter each.
std::string thread_states(pid_t pid);
// True when each of them is stopped by a signal; false when there is none.
bool is_stopped_by_signal(pid_t pid);

}  // namespace crashworthy
