// Signals and errno values by the names that people write.
#pragma once

#include <string>

#include "harness/os/result.h"

namespace crashworthy {

// The number of "SIGTERM", "TERM" or "15"; kUsage for what is no signal.
Result<int> signal_by_name(const std::string& name);

// The number of "EIO"; kUsage for what is no errno value.
Result<int> errno_by_name(const std::string& name);
// "EIO"; "errno 4000" for one without a name.
std::string errno_name(int number);

}  // namespace crashworthy
