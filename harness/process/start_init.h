// The harness's side of crashworthy-init, for Subject and Shim alike: checks what is asked, starts
// it, takes its answer, explains why a command was not executed.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "harness/os/result.h"
#include "harness/os/unique_fd.h"
#include "harness/process/launcher.h"
#include "harness/process/message.h"

namespace crashworthy {

// (Ours, number in the command): each open, each number given once and at least `lowest`, not more
// than `most` of them. kUsage otherwise.
Result<void> check_descriptors(const std::vector<std::pair<int, int>>& descriptors, int lowest,
                               std::size_t most);
// The rest of `spec`. kUsage.
Result<void> check_command(const LaunchSpec& spec);

struct StartedInit {
  pid_t pid = 0;  // Of the outer process, our child.
  UniqueFd pidfd;
  UniqueFd control;   // Its messages come here.
  UniqueFd lifeline;  // Closing it ends everything.
  UniqueFd gate;      // A byte here lets a held command go on.
};

// Starts crashworthy-init in `mode` ("--launch", "--shim") with `spec`, which was checked, and the
// files that its command may be.
Result<StartedInit> start_init(const char* mode, const LaunchSpec& spec,
                               const std::vector<std::string>& candidates,
                               std::optional<Containment> forced);

// The first message of crashworthy-init; kTimeout after 10 s.
Result<Received> await_answer(int control);

// What a message of kind kFailed means.
Error explain_failure(const LaunchSpec& spec, const std::vector<std::string>& candidates,
                      const Message& message);

}  // namespace crashworthy
