// `crashworthy recover`: undoes what a harness that was killed has left outside of its subjects'
// trees, from what its histories say.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "faults/resource.h"
#include "harness/os/result.h"

namespace crashworthy {

enum class Leftover {
  kGone,      // Nothing is there.
  kForeign,   // Something is there that is not what the history tells of: untouched.
  kUndone,    // It was there, and is not any more.
  kRemaining  // It was there and could not be undone.
};
const char* leftover_name(Leftover leftover);

struct Finding {
  std::string what;  // "file '/tmp/crashworthy-7'"
  Leftover state = Leftover::kGone;
  std::string detail;
};

// Looks for one resource and undoes it, if it is the same that was announced.
Finding undo(const Resource& resource);

// Everything that the histories in `directory` (a record, or a run directory) tell of, and its
// scratch directory. Doing it again finds nothing. kUsage when there is no history, or when the
// harness that wrote them still lives or cannot be judged from here.
Result<std::vector<Finding>> recover(const std::filesystem::path& directory);

}  // namespace crashworthy
