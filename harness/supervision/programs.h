// What the children of a tree execute: their environment, and the look for their programs.
#pragma once

#include <string>
#include <vector>

#include "harness/os/result.h"
#include "harness/supervision/spec.h"

namespace crashworthy {

// The variables by which a child learns the numbers of its descriptors.
inline constexpr const char* kReadyVariable = "CRASHWORTHY_READY_FD";
inline constexpr const char* kHeartbeatVariable = "CRASHWORTHY_HEARTBEAT_FD";

// The whole environment of a command or function, "NAME=value": ours as it is now, without what
// another tree has told this process of its own start, and `spec.environment` over it, and its
// descriptors' numbers over both.
std::vector<std::string> child_environment(const ChildSpec& spec);

// Looks for the program of every command, as its start will, and for every function: kUsage, with
// the place as a JSON pointer and the same message as its start would give ("/children/1/command:
// unable to start 'worker': no such program in PATH"). Executes nothing.
Result<void> check_programs(const SupervisorSpec& spec, const std::string& pointer = "");

}  // namespace crashworthy
