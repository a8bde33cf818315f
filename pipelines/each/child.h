// One process that executes items: a command, or a worker that speaks lines.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "harness/os/result.h"
#include "harness/os/unique_fd.h"

namespace crashworthy::each {

struct Child {
  pid_t pid = 0;  // Also of its process group.
  UniqueFd pidfd;
  UniqueFd input;  // Of one that is talked to: we write to its stdin, and read its stdout.
  UniqueFd output;
};

// Starts `words` in a process group of its own, with the descriptors that we inherited and our
// environment. It dies with the calling thread. `talks`: its stdin and stdout are non-blocking
// pipes of ours; else its stdin is empty and its stdout ours. Its program has been executed on
// return, or, where that takes unduly long, will be. kUsage when it cannot be.
Result<Child> start_child(const std::vector<std::string>& words, bool talks);

// SIGKILL to its group: itself, if it still lives, and what it has left there. Only before it has
// been reaped, which keeps the group's number from being used anew.
void kill_group(const Child& child);

}  // namespace crashworthy::each
