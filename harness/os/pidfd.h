// Processes by pidfd: no signal ever reaches a process that took over a reused pid.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>

#include "harness/os/result.h"
#include "harness/os/unique_fd.h"
#include "harness/os/wait_status.h"

namespace crashworthy {

// Opens a pidfd (close-on-exec). kGone when there is no such process.
Result<UniqueFd> open_pidfd(pid_t pid);

// The pid behind `pidfd` as this process sees it; kGone when the process has been reaped.
Result<pid_t> pid_of(int pidfd);

// The pid of our process `pid` in its own (innermost) pid namespace: as itself sees it. Empty when
// it has ended.
std::optional<pid_t> pid_in_own_namespace(pid_t pid);

// When our process `pid` was born, in clock ticks since the boot: with the pid, who it is. Empty
// when it has ended (a zombie counts).
std::optional<std::uint64_t> start_time_of(pid_t pid);

// Sends `signal`. kGone when the process has already been reaped.
Result<void> send_signal(int pidfd, int signal);

// True when the process has ended (a zombie counts). Never blocks.
bool has_ended(int pidfd);

// Waits at most `timeout_ms` for the end; false when it still runs.
bool wait_for_end(int pidfd, int timeout_ms);

// Reaps the child behind `pidfd`, without blocking: empty while it runs. Fails for what is not our
// child.
Result<std::optional<WaitStatus>> reap(int pidfd);

// The exit status that the kernel keeps in the pidfd itself (Linux 6.15 or later, after the process
// was reaped): evidence that does not depend on the parent. Empty where the kernel does not tell.
std::optional<WaitStatus> exit_status_from_kernel(int pidfd);

// Waits at most `timeout_ms` until every task of the process is stopped (state T) after a SIGSTOP;
// false when one still runs.
bool wait_until_stopped(pid_t pid, int timeout_ms);

}  // namespace crashworthy
