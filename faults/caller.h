// What we can see of, and do in, the process of somebody who waits in a system call.
#pragma once

#include <sys/types.h>
#include <sys/uio.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "faults/call_server.h"
#include "faults/system_calls.h"
#include "harness/os/result.h"
#include "harness/os/unique_fd.h"

namespace crashworthy {

// A pidfd of the thread; of its process where the kernel has none of threads (before Linux 6.9).
Result<UniqueFd> open_thread(pid_t tid);
// The process of the thread, as we see it; 0 when it has ended.
pid_t process_of(pid_t tid);

// Copies between `ours` and the caller's memory; so many bytes, or -1 with errno.
ssize_t read_memory(pid_t tid, void* ours, std::size_t size, const std::vector<iovec>& theirs);
ssize_t write_memory(pid_t tid, void* ours, std::size_t size, const std::vector<iovec>& theirs);

// The files that the call names: the absolute path of each, and, where it was written in another
// way, also that. None for descriptors that are not open and paths that are not readable memory;
// an error when we may not look.
Result<std::vector<std::string>> files_of(const ReportedCall& call, const SystemCall& kind);

}  // namespace crashworthy
