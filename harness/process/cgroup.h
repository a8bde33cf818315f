// A control group (version 2) that holds one subject and nothing else.
#pragma once

#include <chrono>
#include <filesystem>
#include <string>

#include "harness/os/result.h"
#include "harness/os/unique_fd.h"

namespace crashworthy {

// The directory of the cgroup2 hierarchy, also in the hybrid layout, in which this process is.
// kMissing, with the reason, when there is none.
Result<std::filesystem::path> own_cgroup();

// Makes a cgroup `name` below our own and returns its directory. Fails, and leaves nothing, where
// that is not allowed or where the kernel has no cgroup.kill (before 5.14).
Result<UniqueFd> create_cgroup(const std::string& name);

// The open cgroup.procs of it: writing "0" moves the writer in.
Result<UniqueFd> open_cgroup_processes(int cgroup);

// SIGKILL to everything in it and below, forks in progress too.
void kill_cgroup(int cgroup);

// Waits until no live process is in it. False when `bound` passes.
bool wait_until_empty(int cgroup, std::chrono::milliseconds bound);

// Removes its directory and what the subject made below it. True when it is gone.
bool remove_cgroup(int cgroup);

}  // namespace crashworthy
