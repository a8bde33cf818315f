// A scratch directory that does not outlive its owner.
#pragma once

#include <filesystem>

#include "harness/os/result.h"
#include "harness/os/unique_fd.h"

namespace crashworthy {

// Owns a directory and, beside it, a small process of its own session that removes the directory
// when we end without doing so, SIGKILL included. Removal never follows symlinks and never enters
// another mount. Not thread-safe.
class ScratchGuard {
 public:
  // Makes `path` (its parents too) and guards it. An existing empty directory is taken. kUsage for
  // "/", for a symlink, for what is no directory and for one that is not empty; those stay as they
  // are.
  static Result<ScratchGuard> create(const std::filesystem::path& path);

  ScratchGuard(ScratchGuard&& other) noexcept = default;
  ScratchGuard& operator=(ScratchGuard&& other) noexcept;
  // Removes the directory as remove() does; what cannot be removed then stays.
  ~ScratchGuard();

  // Absolute.
  const std::filesystem::path& path() const { return path_; }

  // Removes the directory with all that is in it, and ends the guard. Tries for at most 5 s while
  // something still writes there. Nothing happens the second time.
  Result<void> remove();

 private:
  ScratchGuard() = default;
  std::filesystem::path path_;
  UniqueFd directory_;
  UniqueFd lifeline_;  // The write end.
  UniqueFd guard_;     // pidfd
};

}  // namespace crashworthy
