// Starts a helper program of ours: the adapter of Boost.Process v2.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <string>
#include <vector>

#include "harness/os/result.h"
#include "harness/os/unique_fd.h"

namespace crashworthy {

struct Spawned {
  pid_t pid = 0;
  UniqueFd pidfd;
};

// Starts `program` as our child, with our environment and directory. It gets `descriptors` as 0, 1,
// 2 and so on, at least three of them, and no other. It starts with every signal blocked, so that
// no Ctrl-C meant for us ends it before it has left our session. Nothing is left behind on failure.
// Safe from several threads at once; the child does not depend on the calling thread.
Result<Spawned> spawn_helper(const std::filesystem::path& program,
                             const std::vector<std::string>& arguments,
                             const std::vector<int>& descriptors);

}  // namespace crashworthy
