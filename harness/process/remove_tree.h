// Removal of a scratch directory in which dying processes may still write, and whose content is
// hostile: links that lead out of it, directories without permissions, depth without end.
#pragma once

#include <chrono>
#include <filesystem>

#include "harness/os/result.h"

namespace crashworthy {

// Removes everything below the open `directory`, then `path` if that is still the same directory.
// Never follows a symlink, never crosses into another mount. Tries again, as something may still
// write there, until `bound` has passed; removing much may itself take longer.
// A `path` that is gone already is a success.
Result<void> remove_directory(int directory, const std::filesystem::path& path,
                              std::chrono::milliseconds bound);

}  // namespace crashworthy
